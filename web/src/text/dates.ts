/** Dates as people say them. Pure: the present is an argument. */

const formats = new Map<string, Intl.DateTimeFormat>();

function format(date: Date, key: string, options: Intl.DateTimeFormatOptions): string {
  let formatter = formats.get(key);
  if (!formatter) {
    formatter = new Intl.DateTimeFormat(undefined, options);
    formats.set(key, formatter);
  }
  return formatter.format(date);
}

function dayNumber(date: Date): number {
  return Math.floor(
    Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000,
  );
}

/** Whole days from one local day to the other, whatever the hour and the season. */
export function daysBetween(earlier: Date, later: Date): number {
  return dayNumber(later) - dayNumber(earlier);
}

/** For a row: 14:05, Yesterday, Tue, 3 Nov, 03/11/2023. */
export function shortDate(iso: string, now: Date): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return '';
  const days = daysBetween(date, now);
  if (days === 0) return timeOfDay(date);
  if (days === 1) return 'Yesterday';
  if (days > 1 && days < 7) return format(date, 'weekday', { weekday: 'short' });
  if (date.getFullYear() === now.getFullYear()) {
    return format(date, 'dayMonth', { day: 'numeric', month: 'short' });
  }
  return format(date, 'numeric', { day: '2-digit', month: '2-digit', year: 'numeric' });
}

/** For the head of a message: Today 14:05, Yesterday 09:12, Tue 3 Nov 09:12, 3 Nov 2023 09:12. */
export function longDate(iso: string, now: Date): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return '';
  const days = daysBetween(date, now);
  const time = timeOfDay(date);
  if (days === 0) return `Today ${time}`;
  if (days === 1) return `Yesterday ${time}`;
  if (date.getFullYear() === now.getFullYear()) {
    const day = format(date, 'weekdayDay', { weekday: 'short', day: 'numeric', month: 'short' });
    return `${day}, ${time}`;
  }
  const day = format(date, 'fullDay', { day: 'numeric', month: 'short', year: 'numeric' });
  return `${day}, ${time}`;
}

/** With everything in it, for tooltips and quotations. */
export function fullDate(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return '';
  return format(date, 'full', { dateStyle: 'full', timeStyle: 'short' });
}

export function timeOfDay(date: Date): string {
  return format(date, 'time', { hour: '2-digit', minute: '2-digit' });
}

/** Swiping a row sideways with a finger; mouse and pen are left alone. */

export interface SwipeOptions {
  /** Called while the finger moves, and with 0 when it lets go. */
  onmove: (offsetPx: number) => void;
  /** Called when the finger lets go far enough out: -1 to the left, 1 to the right. */
  onact: (direction: -1 | 1) => void;
}

/** Below this a finger is only unsteady. */
const SLOP_PX = 12;
/** Letting go beyond this acts. */
export const SWIPE_ACT_PX = 88;

/** Attaches to an element; it needs `touch-action: pan-y`, so that scrolling stays the browser's. */
export function swipe(element: HTMLElement, options: SwipeOptions): () => void {
  let pointer: number | null = null;
  let startX = 0;
  let offset = 0;
  let isSwiping = false;

  const down = (event: PointerEvent): void => {
    if (event.pointerType !== 'touch' || !event.isPrimary) return;
    pointer = event.pointerId;
    startX = event.clientX;
    offset = 0;
    isSwiping = false;
  };
  const move = (event: PointerEvent): void => {
    if (event.pointerId !== pointer) return;
    offset = event.clientX - startX;
    if (!isSwiping && Math.abs(offset) > SLOP_PX) {
      isSwiping = true;
      element.setPointerCapture(event.pointerId);
    }
    if (isSwiping) options.onmove(offset);
  };
  const end = (event: PointerEvent): void => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    if (!isSwiping) return;
    options.onmove(0);
    const isFarOut = Math.abs(offset) >= SWIPE_ACT_PX;
    if (event.type === 'pointerup' && isFarOut) options.onact(offset < 0 ? -1 : 1);
  };
  const click = (event: MouseEvent): void => {
    // The tap that a swipe ends with is not meant for the link under it.
    if (!isSwiping) return;
    isSwiping = false;
    event.preventDefault();
    event.stopPropagation();
  };
  element.addEventListener('pointerdown', down);
  element.addEventListener('pointermove', move);
  element.addEventListener('pointerup', end);
  element.addEventListener('pointercancel', end);
  element.addEventListener('click', click, true);
  return () => {
    element.removeEventListener('pointerdown', down);
    element.removeEventListener('pointermove', move);
    element.removeEventListener('pointerup', end);
    element.removeEventListener('pointercancel', end);
    element.removeEventListener('click', click, true);
  };
}

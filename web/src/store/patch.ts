/** JMAP PatchObjects applied on this side, and their inverses. Pure. RFC 8620 s5.3 */
import type { PatchObject } from '../jmap/types';

function unescapePointer(token: string): string {
  return token.replaceAll('~1', '/').replaceAll('~0', '~');
}

/** Writes a key as one JSON Pointer token. Source: RFC 6901 s3 */
export function pointer(property: string, key: string): string {
  return `${property}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

/** A new object with the patch applied; the given one is not touched. Paths go one level deep. */
export function applyPatch<T extends object>(object: T, patch: PatchObject): T {
  const next = { ...object } as Record<string, unknown>;
  for (const [path, value] of Object.entries(patch)) {
    const slash = path.indexOf('/');
    if (slash < 0) {
      next[path] = value;
      continue;
    }
    const property = path.slice(0, slash);
    const key = unescapePointer(path.slice(slash + 1));
    const inner = { ...(next[property] as Record<string, unknown> | undefined) };
    if (value === null) delete inner[key];
    else inner[key] = value;
    next[property] = inner;
  }
  return next as T;
}

/** The patch that takes the object back from `applyPatch(object, patch)` to where it was. */
export function invertPatch(object: object, patch: PatchObject): PatchObject {
  const source = object as Record<string, unknown>;
  const inverse: PatchObject = {};
  for (const path of Object.keys(patch)) {
    const slash = path.indexOf('/');
    if (slash < 0) {
      inverse[path] = source[path] ?? null;
      continue;
    }
    const inner = source[path.slice(0, slash)] as Record<string, unknown> | undefined;
    inverse[path] = inner?.[unescapePointer(path.slice(slash + 1))] ?? null;
  }
  return inverse;
}

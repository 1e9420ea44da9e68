/**
 * Whether a file is still the one that was loaded: for workers, which report what they load, and for `bosun dev`, which watches it.
 */
import { statSync } from 'node:fs';

/** Changes with each save, whether an editor writes the file or renames another one over it. Empty where there is none. */
export function versionOf(path: string): string {
  try {
    const { mtimeMs, size, ino } = statSync(path);
    return `${mtimeMs}-${size}-${ino}`;
  } catch {
    return '';
  }
}

/**
 * The files of a repository, as detection reads them: a small interface, so that tests pass in a map. Paths are relative to the root
 * of the repository, with `/`.
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { statOf } from '../config/working-directory.ts';

export interface Files {
  /** The text of a file; undefined if there is none, or it is a folder. Line ends are `\n`. */
  read(path: string): string | undefined;
  /** Whether a file or folder is there. */
  has(path: string): boolean;
  /** The files that match, sorted; nothing below node_modules. */
  glob(pattern: string): string[];
}

/** Git may have checked a file out with CRLF: that is no change. */
export const withoutCarriageReturns = (text: string): string => text.replaceAll('\r\n', '\n');

/** The files below a folder of this machine. @throws the system's error if a file cannot be read */
export function filesIn(root: string): Files {
  return {
    read: path => {
      const file = join(root, path);
      return statOf(file)?.isFile() ? withoutCarriageReturns(readFileSync(file, 'utf8')) : undefined;
    },
    has: path => statOf(join(root, path)) !== undefined,
    glob: pattern =>
      globSync(pattern, { cwd: root, exclude: path => path.split('/').includes('node_modules') })
        .filter(path => statOf(join(root, path))?.isFile())
        .sort(),
  };
}

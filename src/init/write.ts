/**
 * Carries a plan out: what differs from the repository is written, each file whole or not at all. Nothing that exists is overwritten, unless that is
 * demanded.
 */
import { chmodSync, copyFileSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Files } from './files.ts';
import type { Planned } from './plan.ts';
import { bodyOf, type State, stateOf } from './record.ts';

export interface Step {
  planned: Planned;
  state: State;
  /** Of a text. */
  current: string | undefined;
  isWritten: boolean;
}

/** What would happen to each file. `force` overwrites what differs. */
export function steps(
  planned: readonly Planned[],
  files: Files,
  hashes: Readonly<Record<string, string>>,
  force: boolean,
): Step[] {
  return planned.map(each => {
    if (each.kind === 'copy') {
      const isThere = files.has(each.path);
      return { planned: each, state: isThere ? 'same' : 'new', current: undefined, isWritten: !isThere };
    }
    const current = files.read(each.path);
    if (each.kind === 'addition')
      return {
        planned: each,
        state: bodyOf(current ?? '') === each.text ? 'same' : 'new',
        current,
        isWritten: current !== each.text,
      };
    const state = stateOf(current, each.text, hashes[each.path]);
    return { planned: each, state, current, isWritten: state === 'new' || (force && state !== 'same') };
  });
}

/** @throws Error that names the file which could not be written */
export function write(root: string, { planned }: Step): void {
  const file = join(root, planned.path);
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    mkdirSync(dirname(file), { recursive: true });
    if (planned.kind === 'copy') copyFileSync(resolve(root, planned.from), temporary);
    else writeFileSync(temporary, planned.text);
    const mode = statSync(file, { throwIfNoEntry: false })?.mode;
    if (mode !== undefined) chmodSync(temporary, mode);
    else if (planned.kind === 'file' && planned.isExecutable) chmodSync(temporary, 0o755);
    renameSync(temporary, file);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new Error(`${planned.path} cannot be written: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Carries a plan out: what differs from the repository is written, each file whole or not at all. What has been edited is not overwritten, unless
 * that is demanded.
 */
import { chmodSync, copyFileSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Files } from './files.ts';
import { isRecord } from './package-json.ts';
import type { Planned } from './plan.ts';
import { hashOf, type InitRecord, type State, stateOf } from './record.ts';

export interface Step {
  planned: Planned;
  state: State;
  /** Of a text. */
  current: string | undefined;
  isWritten: boolean;
}

/**
 * What would happen to each file. What is as it was written follows the plan; `force` overwrites what differs otherwise. `before` is the plan by
 * the recorded choices.
 */
export function steps(
  planned: readonly Planned[],
  files: Files,
  { hashes }: Pick<InitRecord, 'hashes'>,
  force: boolean,
  before: readonly Planned[] = planned,
): Step[] {
  const wanted = planned
    .filter(each => each.kind !== 'removal')
    .map((each): Step => {
      if (each.kind === 'copy') {
        const isThere = files.has(each.path);
        return { planned: each, state: isThere ? 'same' : 'new', current: undefined, isWritten: !isThere };
      }
      const current = files.read(each.path);
      if (each.kind === 'addition')
        return {
          planned: each,
          state: current === each.text ? 'same' : current === undefined ? 'new' : 'outdated',
          current,
          isWritten: current !== each.text,
        };
      const state = stateOf(current, each.text, hashes[each.path], textIn(before, each.path));
      return { planned: each, state, current, isWritten: FOLLOWS.includes(state) || (force && state !== 'same') };
    });
  return [...wanted, ...removals(wanted, files, hashes)];
}

const FOLLOWS: readonly State[] = ['new', 'outdated'];

export function textIn(planned: readonly Planned[], path: string): string | undefined {
  const found = planned.find(each => each.path === path);
  return found !== undefined && 'text' in found ? found.text : undefined;
}

/** The planned scripts that package.json has once it is written. */
export function scriptsIn({ text, scripts }: { text: string; scripts?: Readonly<Record<string, string>> }) {
  if (scripts === undefined) return {};
  const content: unknown = JSON.parse(text);
  const own = isRecord(content) && isRecord(content.scripts) ? content.scripts : {};
  return Object.fromEntries(Object.entries(scripts).filter(([name, command]) => own[name] === command));
}

/** Of what was written and has no use any more: all of it, or nothing if an edited file may need it. */
function removals(wanted: readonly Step[], files: Files, hashes: InitRecord['hashes']): Step[] {
  const unused = Object.keys(hashes).flatMap(path => {
    const current = wanted.some(({ planned }) => planned.path === path) ? undefined : files.read(path);
    return current === undefined ? [] : [{ path, current, isEdited: hashOf(current) !== hashes[path] }];
  });
  const isKept = wanted.some(({ state, isWritten }) => !isWritten && (state === 'both' || state === 'options'));
  const isWritten = !isKept && !unused.some(({ isEdited }) => isEdited);
  return unused.map(({ path, current }) => ({ planned: { kind: 'removal', path }, state: 'unused', current, isWritten }));
}

/** @throws Error that names the file which could not be written */
export function write(root: string, planned: Planned): void {
  const file = join(root, planned.path);
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    if (planned.kind === 'removal') {
      rmSync(file, { force: true });
      removeEmpty(dirname(file), root);
      return;
    }
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

/** The folders that have nothing left, up to the root. */
function removeEmpty(folder: string, root: string): void {
  if (resolve(folder) === resolve(root) || readdirSync(folder).length > 0) return;
  rmdirSync(folder);
  removeEmpty(dirname(folder), root);
}

/**
 * .bosun.json: what was decided for a repository, and the hash of each file as it was written. It separates a change made in the repository
 * from one of the templates.
 */
import { createHash } from 'node:crypto';
import type { Choices } from './detect.ts';
import { type Files, withoutCarriageReturns } from './files.ts';
import { isRecord, stringsOf } from './package-json.ts';

export const RECORD = '.bosun.json';
const NOTE = 'Written by bosun init. bosun upgrade --check goes by it: commit it.';

export interface InitRecord {
  choices: Choices;
  /** By path. */
  hashes: Readonly<Record<string, string>>;
  /** Of package.json, as they were written. */
  scripts: Readonly<Record<string, string>>;
}

/** @returns nothing decided, nothing written, if there is no such file @throws Error if it is damaged */
export function readRecord(files: Files): InitRecord {
  const text = files.read(RECORD);
  if (text === undefined) return { choices: {}, hashes: {}, scripts: {} };
  try {
    const content: unknown = JSON.parse(text);
    if (isRecord(content) && isRecord(content.choices) && isRecord(content.files)) {
      const { name, image, module, port, redis, namespace, components, chart } = content.choices;
      return {
        choices: {
          name: typeof name === 'string' ? name : undefined,
          image: typeof image === 'string' ? image : undefined,
          module: typeof module === 'string' ? module : undefined,
          port: typeof port === 'number' ? port : undefined,
          redis: typeof redis === 'boolean' ? redis : undefined,
          namespace: typeof namespace === 'string' ? namespace : undefined,
          components: Array.isArray(components) ? components.map(String) : undefined,
          chart: chart === true,
        },
        hashes: stringsOf(content.files),
        scripts: stringsOf(content.scripts),
      };
    }
  } catch {
    // named below
  }
  throw new Error(`${RECORD} must be as bosun init wrote it: restore it, or remove it and run bosun init again`);
}

export const recordText = ({ choices, hashes, scripts }: InitRecord): string =>
  `${JSON.stringify({ '//': NOTE, choices, files: hashes, scripts }, null, 2)}\n`;

/** The first line of a written file, which names the version of the kit: it alone is no difference. */
const HEADER = /^# koa-bosun \S+, .*: written by bosun init\n/;

export const header = (version: string, template: string): string =>
  `# koa-bosun ${version}, ${template}: written by bosun init\n`;

/** What is compared. */
export const bodyOf = (text: string): string => withoutCarriageReturns(text).replace(HEADER, '');
export const hashOf = (text: string): string => createHash('sha256').update(bodyOf(text)).digest('hex').slice(0, 16);

export const STATES = {
  new: 'is written',
  same: 'is as it would be written',
  outdated: 'differs: the template or the project has changed',
  edited: 'differs: edited in this repository, the template is the same',
  both: 'differs: edited in this repository, and the template or the project has changed',
  options: 'differs: edited in this repository, and your options have changed',
  foreign: 'differs: it is not from bosun init',
  unused: 'is no longer among what bosun init writes',
} as const;
export type State = keyof typeof STATES;

/** How a file of the repository relates to what would be written, now and by the options of the last time. */
export function stateOf(current: string | undefined, wanted: string, recorded: string | undefined, before = wanted): State {
  if (current === undefined) return 'new';
  if (bodyOf(current) === bodyOf(wanted)) return 'same';
  if (recorded === undefined) return 'foreign';
  const isEdited = hashOf(current) !== recorded;
  const isOutdated = hashOf(wanted) !== recorded;
  if (!isEdited) return 'outdated';
  return isOutdated ? (bodyOf(before) === bodyOf(wanted) ? 'both' : 'options') : 'edited';
}

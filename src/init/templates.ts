/**
 * The kit's own docker/, compose.yaml and k8s/ are the templates: what is written into a repository is made of them, so that it cannot
 * drift. They lie in the package as in a clone.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { withoutCarriageReturns } from './files.ts';

const KIT_FOLDER = join(import.meta.dirname, '..', '..');

/** The text of one of the kit's files. @throws the system's error if the package lacks it */
export const template = (path: string): string => withoutCarriageReturns(readFileSync(join(KIT_FOLDER, path), 'utf8'));

/** The files below one of the kit's folders, by their path in the kit, sorted. */
export function templatesIn(folder: string): string[] {
  return readdirSync(join(KIT_FOLDER, folder), { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(KIT_FOLDER.length + 1))
    .sort();
}

const { version, homepage } = JSON.parse(template('package.json')) as { version: string; homepage: string };
export const KIT_VERSION = version;
/** The kit's repository on the web. */
export const KIT_HOME = homepage.replace(/#.*$/, '');
/** A page of the kit's guide. */
export const guide = (page: string): string => `${KIT_HOME}/blob/main/docs/guide/${page}`;

/** A template, changed step by step. Each step fails if the template no longer has what it changes. */
export class Edited {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  /** Every occurrence. @throws Error */
  replace(from: string, to: string): Edited {
    if (!this.text.includes(from)) throw new Error(`the template must contain ${JSON.stringify(from)}`);
    return new Edited(this.text.replaceAll(from, to));
  }

  /** Removes a line of YAML with all that is indented below it, and the comment above it. @throws Error */
  without(key: string): Edited {
    const lines = this.text.split('\n');
    const first = lines.findIndex(line => line.startsWith(key));
    if (first === -1) throw new Error(`the template must have a line that starts with ${JSON.stringify(key)}`);
    const indent = indentOf(key);
    const isInside = (line: string | undefined) => line !== undefined && (line.trim() === '' || indentOf(line) > indent);
    let end = first + 1;
    while (isInside(lines[end])) end++;
    while (lines[end - 1]?.trim() === '' && end > first + 1) end--;
    let start = first;
    while (lines[start - 1]?.startsWith(`${' '.repeat(indent)}#`)) start--;
    // One empty line is enough between what was before and what comes now.
    if (lines[start - 1] === '' && (lines[end] === '' || end === lines.length)) start--;
    return new Edited([...lines.slice(0, start), ...lines.slice(end)].join('\n'));
  }

  /** Without the comment that opens the file: it is about the kit's own repository. */
  withoutHead(): Edited {
    return new Edited(this.text.replace(/^(?:#.*\n)+/, ''));
  }
}

const indentOf = (line: string) => line.length - line.trimStart().length;

/** An instruction of a Dockerfile with the comment above it. @throws Error */
export function instruction(dockerfile: string, start: string): string {
  const lines = dockerfile.split('\n');
  const first = lines.findIndex(line => line.startsWith(start));
  if (first === -1) throw new Error(`the template must have an instruction that starts with ${JSON.stringify(start)}`);
  let end = first + 1;
  while (/\\$/.test(lines[end - 1] ?? '')) end++;
  let begin = first;
  while (lines[begin - 1]?.startsWith('#')) begin--;
  return lines.slice(begin, end).join('\n');
}

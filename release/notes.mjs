/** Prints what CHANGELOG.md says of a version, for the notes of its release: `node release/notes.mjs 0.1.0`. Plain JavaScript for Node.js 20. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/**
 * The text below the heading of a version.
 * @returns undefined where there is no such heading, or nothing below it
 */
export function notesOf(changelog, version) {
  const sections = changelog.split(/^## /m).slice(1);
  const section = sections.find(text => text.split(/[\s(]/, 1)[0] === version);
  return section?.slice(section.indexOf('\n')).trim() || undefined;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , version = ''] = process.argv;
  const notes = notesOf(readFileSync(join(import.meta.dirname, '..', 'CHANGELOG.md'), 'utf8'), version);
  if (notes === undefined) throw new Error(`CHANGELOG.md must have a section "## ${version}" with text, got none`);
  console.log(notes);
}

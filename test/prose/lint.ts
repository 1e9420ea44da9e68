/**
 * The prose linter of `make check`. The words of RULES occur nowhere in src, docs and tests; the documentation and the messages in src
 * follow write-good's rules. Prints `file:line: problem`, and exits with code 1 if there is one.
 */
import { globSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parse } from '@babel/parser';
import { ALLOWED, RULES } from './vocabulary.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'docs/**/*.md'];
const SOURCES = ['src/**/*.{ts,js}'];
const TESTS = ['test/**/*.{ts,mjs}'];
const NOT_CHECKED = /node_modules|^test\/(k8s\/schemas|prose|fixtures\/adopt|apps\/[^/]+|output)\//;

type Suggestion = { index: number; reason: string };
const writeGood = createRequire(import.meta.url)('write-good') as (text: string, options: object) => Suggestion[];
/** Passive voice and adverbs have their place in reference documentation; so have the words of ALLOWED. */
const OPTIONS = {
  passive: false,
  adverb: false,
  whitelist: ALLOWED,
};

/** `tell` matches tell, tellAll, onTell and TELL, but not castellan. */
const patterns = RULES.map(rule => {
  const capital = rule.words.replace(/(^|\|)([a-z])/g, (_, bar: string, letter: string) => bar + letter.toUpperCase());
  const upper = rule.words.replaceAll('\\w', '\u0000').toUpperCase().replaceAll('\u0000', '\\w');
  return {
    ...rule,
    pattern: new RegExp(
      `(?<![A-Za-z])(?:${rule.words})(?![a-z])|(?<![A-Z])(?:${capital})(?![a-z])|(?<![A-Za-z])(?:${upper})(?![A-Za-z])`,
    ),
  };
});

const filesOf = (globs: string[]) =>
  globSync(globs, { cwd: ROOT })
    .filter(file => !NOT_CHECKED.test(file))
    .sort();
const problems = [
  ...filesOf([...PAGES, ...SOURCES, ...TESTS]).flatMap(file =>
    read(file)
      .split('\n')
      .flatMap((line, index) => wordsOf(file, line, index + 1)),
  ),
  ...filesOf(PAGES).flatMap(file => suggestionsOf(file, proseOf(read(file)), 1)),
  ...filesOf(SOURCES).flatMap(file => messagesOf(read(file)).flatMap(({ line, text }) => suggestionsOf(file, text, line))),
];
for (const problem of problems) console.log(problem);
if (problems.length > 0) {
  console.error(`prose: ${problems.length} problems`);
  process.exitCode = 1;
}

function read(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8');
}

function wordsOf(file: string, line: string, lineNumber: number): string[] {
  return patterns.flatMap(({ pattern, use, unless, exceptIn }) => {
    const word = pattern.exec(line)?.[0];
    return word === undefined || unless?.test(line) || exceptIn?.test(file)
      ? []
      : [`${file}:${lineNumber}: "${word}": use ${use}`];
  });
}

function suggestionsOf(file: string, text: string, firstLine: number): string[] {
  // A word of the whitelist counts only after the first character.
  return writeGood(` ${text}`, OPTIONS).map(({ index, reason }) => {
    const line = firstLine + text.slice(0, index - 1).split('\n').length - 1;
    return `${file}:${line}: ${reason}`;
  });
}

/** A Markdown page without its code, comments and link targets; lines keep their numbers. */
function proseOf(page: string): string {
  const blank = (text: string) => text.replace(/[^\n]/g, ' ');
  return page
    .replace(/^```[\s\S]*?^```/gm, blank)
    .replace(/<!--[\s\S]*?-->|<[^>]+>/g, blank)
    .replace(/`[^`\n]*`/g, code => 'X'.padEnd(code.length))
    .replace(/\]\([^)]*\)/g, blank)
    .replace(/^\|.*$/gm, row => row.replaceAll('|', '.'));
}

/** The string and template literals of a source file that are sentences: three words or more. */
function messagesOf(source: string): { line: number; text: string }[] {
  const { tokens } = parse(source, { sourceType: 'module', plugins: ['typescript'], tokens: true });
  return (tokens ?? []).flatMap(({ value, loc }: { value?: unknown; loc: { start: { line: number } } }) =>
    typeof value === 'string' && /[a-z]+ [a-z]+ [a-z]+/i.test(value) && !/redis\.call/.test(value)
      ? [{ line: loc.start.line, text: value.replace(/^[`}]|[`]$|\$\{$/g, '') }]
      : [],
  );
}

/**
 * The blocks of the documentation as something to execute: commands with the output that they print, and changes to a file. Pure.
 */
import { globSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '..', '..');

/** Every page but the changelog, which also names what was there before. The site's own folder holds no page. */
export const ALL_PAGES = [
  'README.md',
  'CONTRIBUTING.md',
  ...globSync('docs/**/*.md', { cwd: ROOT, exclude: ['docs/site'] }).sort(),
];

/** The pages whose commands `make test-readme` runs, in the order in which a reader follows them. */
export const PAGES = ['README.md', ...globSync('docs/guide/*.md', { cwd: ROOT }).sort()];

export interface Block {
  language: string;
  text: string;
  /** Line number of its fence, from 1. */
  line: number;
}

/** In their order. */
export function blocksOf(page: string): Block[] {
  return [...page.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(({ 1: language = '', 2: text = '', index }) => ({
    language,
    text,
    line: page.slice(0, index).split('\n').length,
  }));
}

export interface Step {
  command: string;
  /** The output that the page shows. */
  output: string;
}

/** `sh` is one command whose output the page does not show; in a `console` each `$` begins one. */
export function stepsOf({ language, text }: Block): Step[] {
  if (language === 'sh') return [{ command: text, output: '' }];
  return text
    .split(/^\$ /m)
    .slice(1)
    .map(part => {
      const end = part.search(/(?<!\\)\n/);
      return { command: part.slice(0, end), output: part.slice(end + 1).trim() };
    });
}

/**
 * Two outputs are the same but for what differs from run to run: numbers, times, how many lines or workers of a kind there are, this
 * host's name, and rows that name kernel files.
 */
export function shapeOf(output: string): string[] {
  return output
    .trim()
    .split('\n')
    .filter(line => !/^\w+ +\/(?:sys|proc)\//.test(line))
    .map(line =>
      line
        .replace(/"pod":"[^"]+"/g, '"pod":"…"')
        .replace(/\/(?:sys|proc)\/[\w./-]+/g, '/…')
        .replace(/\b[0-9a-f]{12}\b/g, 'container')
        .replace(/\d+(?:[.,]\d+)*/g, 'N')
        .replace(/ +/g, ' ')
        .replace(/(N \(N\) N %)(?:, N \(N\) N %)+/g, '$1 …')
        .trim(),
    )
    .filter((line, index, lines) => line !== lines[index - 1]);
}

export interface Change {
  before: string;
  after: string;
  /** Lines that are taken away, and lines that come. */
  removed: number;
  added: number;
}

/** The hunks of a `diff` block, which are apart by a line `…`. */
export function changesOf({ text }: Block): Change[] {
  return text.split(/^ ?…\n/m).map(hunk => {
    const lines = hunk.trimEnd().split('\n');
    const of = (signs: string) => lines.filter(line => signs.includes(line[0] ?? ' ')).map(line => line.slice(1));
    return { before: of(' -').join('\n'), after: of(' +').join('\n'), removed: of('-').length, added: of('+').length };
  });
}

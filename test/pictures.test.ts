/** The pictures of the documentation: the drawn ones follow from facts, and so does the text for those who do not see them. */
import assert from 'node:assert/strict';
import { globSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';
import { drawn, markupOf, pictures } from './pictures/pictures.ts';
import { COLORS, TINT } from './pictures/svg.ts';

const ROOT = join(import.meta.dirname, '..');
const FOLDER = join(ROOT, 'docs', 'pictures');

test('the pictures take less than a megabyte', () => {
  const total = readdirSync(FOLDER).reduce((sum, name) => sum + statSync(join(FOLDER, name)).size, 0);
  assert.ok(total < 1_000_000, `${total} bytes`);
});

test('the drawn pictures show what is true now, and no other is left', () => {
  const files = drawn();
  for (const [name, picture] of files) assert.equal(readFileSync(join(FOLDER, name), 'utf8'), picture, `${name}: run make docs`);
  assert.deepEqual(
    readdirSync(FOLDER).filter(name => name.endsWith('.svg')),
    [...files.keys()].sort(),
  );
});

test('each drawn picture is on a page, with its variants and its alternative text', () => {
  const pages = ['README.md', ...globSync('docs/**/*.md', { cwd: ROOT, exclude: ['docs/site'] })];
  for (const [name, { alt }] of Object.entries(pictures())) {
    const block = new RegExp(`<picture>(?:(?!</picture>)[\\s\\S])*/${name}-light\\.svg"[\\s\\S]*?</picture>`);
    const places = pages.filter(page => block.test(readFileSync(join(ROOT, page), 'utf8')));
    assert.ok(places.length > 0, `${name} is on no page`);
    for (const page of places) {
      const text = readFileSync(join(ROOT, page), 'utf8');
      const wanted = markupOf(name, alt, relative(dirname(join(ROOT, page)), FOLDER));
      if (process.env.UPDATE_DOCS === '1')
        writeFileSync(
          join(ROOT, page),
          text.replace(block, () => wanted),
        );
      else assert.equal(block.exec(text)?.[0], wanted, `${page}: run make docs`);
    }
  }
});

test('every text of a drawn picture has the contrast that WCAG requires', () => {
  for (const { page, series, ...inks } of Object.values(COLORS)) {
    for (const ink of [inks.ink, inks.quiet, inks.bad]) assert.ok(contrast(ink, page) >= 4.5, `${ink} on ${page}`);
    for (const tint of [inks.rule, inks.good, inks.warn, ...series])
      assert.ok(contrast(inks.ink, mixed(tint, page, 0.35)) >= 4.5, `${inks.ink} on a tint of ${tint}`);
    assert.ok(TINT <= 0.35);
  }
});

const channels = (color: string) => [1, 3, 5].map(index => Number.parseInt(color.slice(index, index + 2), 16));

function mixed(over: string, under: string, opacity: number): string {
  const below = channels(under);
  const hex = (value: number) => Math.round(value).toString(16).padStart(2, '0');
  return `#${channels(over)
    .map((value, index) => hex(value * opacity + (below[index] ?? 0) * (1 - opacity)))
    .join('')}`;
}

/** The contrast ratio of WCAG 2, from 1 to 21. */
function contrast(one: string, other: string): number {
  const [darker = 0, lighter = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (lighter + 0.05) / (darker + 0.05);
}

function luminance(color: string): number {
  const [red = 0, green = 0, blue = 0] = channels(color).map(value => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/**
 * What the drawn pictures of the documentation are made of, as SVG text: pure. Each picture is drawn four times: for light and dark, since an SVG
 * in a page cannot know the reader's colour scheme, and wide and narrow, since its text has to be legible on a phone.
 */

export type Scheme = 'light' | 'dark';

export interface Look {
  scheme: Scheme;
  isNarrow: boolean;
}

export const LOOKS: readonly Look[] = (['light', 'dark'] as const).flatMap(scheme => [
  { scheme, isNarrow: false },
  { scheme, isNarrow: true },
]);

/** The end of a file's name. */
export const suffixOf = ({ scheme, isNarrow }: Look) => `${isNarrow ? '-narrow' : ''}-${scheme}.svg`;

/** Every text is written in `ink` or `quiet` on `page`, or in `ink` on a tint of another colour. */
export interface Colors {
  page: string;
  ink: string;
  quiet: string;
  rule: string;
  good: string;
  warn: string;
  bad: string;
  series: readonly string[];
}

export const COLORS: Record<Scheme, Colors> = {
  light: {
    page: '#ffffff',
    ink: '#171b21',
    quiet: '#5d6673',
    rule: '#c3cad3',
    good: '#0b7a4b',
    warn: '#d9730d',
    bad: '#c4332b',
    series: ['#4b5768', '#2563c9', '#8a3fc4', '#0d8a8a'],
  },
  dark: {
    page: '#0d1117',
    ink: '#e8ebef',
    quiet: '#98a2b0',
    rule: '#3b434e',
    good: '#4cc38a',
    warn: '#ffa657',
    bad: '#ff7b72',
    series: ['#a9b4c4', '#6ea8fe', '#c792ea', '#4fd1c5'],
  },
};

const [WIDE, NARROW] = [720, 380];
export const widthOf = ({ isNarrow }: Look) => (isNarrow ? NARROW : WIDE);
/** Free on the left and on the right of every picture. */
export const MARGIN = 14;

const FONT_SIZE = 13;
/** The opacity of a tinted area. */
export const TINT = 0.2;
/** Of the widest common font; the others leave some space. */
const CHARACTER_WIDTH = 7;
const CAPITAL_WIDTH = 9;
export const LINE_HEIGHT = 18;

/** A picture. `title` is its text for those who do not see it, where it is shown without a page. */
export function svg(look: Look, height: number, title: string, parts: readonly string[]): string {
  const { page, quiet, ink } = COLORS[look.scheme];
  const arrowHead = (name: string, color: string) =>
    `<marker id="${name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" fill="${color}"/></marker>`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${widthOf(look)} ${height}" width="${widthOf(look)}" height="${height}" role="img" aria-label="${title}" font-family="system-ui, sans-serif" font-size="${FONT_SIZE}">`,
    `<title>${title}</title><defs>${arrowHead('arrow', ink)}${arrowHead('quiet-arrow', quiet)}</defs>`,
    `<rect width="100%" height="100%" rx="8" fill="${page}"/>`,
    ...parts.filter(part => part !== ''),
    '</svg>\n',
  ].join('\n');
}

export interface TextOptions {
  anchor?: 'start' | 'middle' | 'end';
  weight?: number;
}

/** @param y of the base line */
export function text(x: number, y: number, fill: string, content: string, { anchor = 'start', weight = 400 }: TextOptions = {}) {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${round(x)}" y="${round(y)}" fill="${fill}" text-anchor="${anchor}" font-weight="${weight}">${escaped}</text>`;
}

/** A text over lines: the page shows around it. */
export function textOverLines(
  x: number,
  y: number,
  fill: string,
  content: string,
  page: string,
  options: TextOptions = {},
): string {
  return text(x, y, fill, content, options).replace(
    '<text ',
    `<text stroke="${page}" stroke-width="5" stroke-linejoin="round" paint-order="stroke" `,
  );
}

/** About as wide as a text of one line. */
export const widthOfText = (content: string) =>
  content.length * CHARACTER_WIDTH + (content.match(/[A-Z_]/g)?.length ?? 0) * (CAPITAL_WIDTH - CHARACTER_WIDTH);
export const fits = (content: string, px: number) => widthOfText(content) <= px;

/** The lines of a text that is at most `px` wide. */
export function linesOf(content: string, px: number): string[] {
  const lines = [''];
  for (const word of content.split(' ')) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (fits(longer, px)) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines.filter(line => line !== '');
}

/** A text of several lines. @returns the text, and how high it is */
export function paragraph(x: number, y: number, px: number, fill: string, content: string, options: TextOptions = {}) {
  const lines = linesOf(content, px);
  const parts = lines.map((line, index) => text(x, y + index * LINE_HEIGHT, fill, line, options));
  return { parts, height: lines.length * LINE_HEIGHT };
}

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** A tinted area with a border. */
export const area = ({ x, y, width, height }: Box, color: string, opacity = TINT) =>
  `<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" rx="4" fill="${color}" fill-opacity="${opacity}" stroke="${color}"/>`;

/** The same, which hides what is drawn before it. */
export const opaqueArea = (box: Box, color: string, page: string) => area(box, page, 1) + area(box, color);

/** A box with lines of text in its middle, the first one bold. */
export function labelled(box: Box, color: string, ink: string, lines: readonly string[]): string[] {
  const first = box.y + box.height / 2 - ((lines.length - 1) * LINE_HEIGHT) / 2 + 4.5;
  return [
    area(box, color),
    ...lines.map((line, index) =>
      text(box.x + box.width / 2, first + index * LINE_HEIGHT, ink, line, { anchor: 'middle', weight: index === 0 ? 600 : 400 }),
    ),
  ];
}

export interface LineOptions {
  isDashed?: boolean;
  hasHead?: boolean;
  /** The head has the quiet colour. */
  isQuiet?: boolean;
}

/** A line along a path of SVG, with an arrow head at its end. */
export function line(
  path: string,
  color: string,
  { isDashed = false, hasHead = true, isQuiet = false }: LineOptions = {},
): string {
  const head = hasHead ? ` marker-end="url(#${isQuiet ? 'quiet-arrow' : 'arrow'})"` : '';
  return `<path d="${path}" fill="none" stroke="${color}" stroke-width="1.4"${isDashed ? ' stroke-dasharray="4 3"' : ''}${head}/>`;
}

function round(number: number): number {
  return Math.round(number * 10) / 10;
}

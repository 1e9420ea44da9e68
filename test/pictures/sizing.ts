/** From the limits of a container to the number of workers and the heap of each. */
import { area, COLORS, fits, type Look, labelled, line, MARGIN, paragraph, svg, text, widthOf } from './svg.ts';

export interface SizingFacts {
  limitMib: number;
  cpus: number;
  workers: number;
  heapMib: number;
  /** Where the memory limit goes, in MiB. */
  shares: { kernel: number; primary: number; starting: number; young: number; rest: number };
}

export function sizingPicture(look: Look, { limitMib, cpus, workers, heapMib, shares }: SizingFacts): string {
  const colors = COLORS[look.scheme];
  const [blue = colors.ink, purple = colors.ink] = colors.series.slice(1);
  const width = widthOf(look) - 2 * MARGIN;
  const half = (width - 28) / 2;
  const parts: string[] = [];
  const step = (y: number, column: number, lines: string[], color: string, height: number) =>
    labelled({ x: MARGIN + column * (half + 28), y, width: half, height }, color, colors.ink, lines);
  const limitHeight = look.isNarrow ? 66 : 48;
  const file = (name: string, content: string) => (look.isNarrow ? [name, content] : [`${name} ${content}`]);
  parts.push(
    ...step(MARGIN, 0, [`${cpus} CPUs`, ...file('cpu.max', `${cpus * 100_000} 100000`)], blue, limitHeight),
    ...step(MARGIN, 1, [`${limitMib} MiB`, ...file('memory.max', String(limitMib * 2 ** 20))], blue, limitHeight),
  );
  const boxY = MARGIN + limitHeight - 48;
  parts.push(...step(boxY + 78, 0, [`${workers} workers`, 'rounded half up'], colors.good, 48));
  parts.push(...step(boxY + 78, 1, [`heap ${heapMib} MiB each`, '--max-old-space-size'], colors.good, 48));
  for (const column of [0, 1]) {
    const x = MARGIN + column * (half + 28) + half / 2;
    parts.push(line(`M${x} ${boxY + 52}L${x} ${boxY + 74}`, colors.ink));
  }
  parts.push(line(`M${MARGIN + half + 3} ${boxY + 102}L${MARGIN + half + 25} ${boxY + 102}`, colors.ink));

  const perWorker = (id: number): Segment[] => [
    { mib: heapMib, color: colors.good, name: `worker ${id}: old generation of its heap` },
    { mib: shares.young, color: blue, name: `worker ${id}: young generation` },
    { mib: shares.rest, color: purple, name: `worker ${id}: buffers, code, stacks` },
  ];
  const segments: Segment[] = [
    { mib: shares.primary, color: colors.warn, name: 'the primary' },
    ...Array.from({ length: workers }, (_, index) => perWorker(index + 1)).flat(),
    { mib: shares.starting, color: colors.quiet, name: 'free for a worker that starts during a restart' },
    { mib: shares.kernel, color: colors.rule, name: 'the kernel: sockets, page cache' },
  ];
  const barY = boxY + 160;
  parts.push(text(MARGIN, barY - 8, colors.ink, `Where ${limitMib} MiB go`, { weight: 700 }));
  const total = segments.reduce((sum, { mib }) => sum + mib, 0);
  let x = MARGIN;
  for (const { mib, color } of segments) {
    const box = { x, y: barY, width: (width * mib) / total, height: 34 };
    parts.push(area(box, color, 0.35));
    const label = String(Math.round(mib));
    if (fits(label, box.width)) parts.push(text(x + box.width / 2, barY + 21, colors.ink, label, { anchor: 'middle' }));
    x += box.width;
  }
  const legend = [
    ...new Map(segments.map(({ name, mib, color }) => [name.replace(/worker \d+/, 'each worker'), { mib, color }])),
  ];
  let y = barY + 56;
  for (const [name, { mib, color }] of legend) {
    parts.push(area({ x: MARGIN, y: y - 11, width: 13, height: 13 }, color, 0.35));
    const meaning = paragraph(MARGIN + 88, y, width - 88, colors.quiet, name);
    parts.push(text(MARGIN + 22, y, colors.ink, `${Math.round(mib)} MiB`), ...meaning.parts);
    y += meaning.height + 3;
  }
  const note = paragraph(
    MARGIN,
    y + 10,
    width,
    colors.quiet,
    'bosun sizing prints the limits with their files, the workers and the heap of each.',
  );
  return svg(
    look,
    y + note.height + 4,
    `Sizing: from ${cpus} CPUs and ${limitMib} MiB to ${workers} workers with ${heapMib} MiB of heap each`,
    [...parts, ...note.parts],
  );
}

interface Segment {
  mib: number;
  color: string;
  name: string;
}

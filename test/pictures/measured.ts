/** The measurements of the balancing policies, as a plot. */
import { COLORS, type Look, MARGIN, svg, text, widthOf } from './svg.ts';

export interface Measurement {
  policy: string;
  /** Against rr: minimum, median, maximum; one for each of the names. */
  ratios: readonly (readonly [number, number, number])[];
}

const NAMES_WIDTH = 126;

/** A panel for each name, a whisker from minimum to maximum for each policy; the line is rr. */
export function policiesPicture(look: Look, names: readonly string[], measured: readonly Measurement[]): string {
  const colors = COLORS[look.scheme];
  const [left, right] = [MARGIN + NAMES_WIDTH, widthOf(look) - MARGIN - 16];
  const row = 22;
  const panel = measured.length * row + (look.isNarrow ? 46 : 40);
  const all = measured.flatMap(({ ratios }) => ratios.flat());
  const [low, high] = [Math.log2(Math.min(0.25, ...all)), Math.log2(Math.max(4, ...all))];
  const at = (ratio: number) => left + ((right - left) * (Math.log2(ratio) - low)) / (high - low);
  const bottom = 16 + names.length * panel;
  const every = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8].filter(tick => Math.log2(tick) >= low && Math.log2(tick) <= high);
  const ticks = look.isNarrow ? every.filter(tick => Math.log2(tick) % 2 === 0) : every;
  return svg(look, bottom + 40, 'The balancing policies against rr: minimum, median, maximum', [
    ...names.flatMap((name, index) => {
      const top = 16 + index * panel;
      const rowsTop = top + panel - measured.length * row - 4;
      const better = /^(?:CPU|p\d)/.test(name) ? 'less is better' : 'more is better';
      const head = look.isNarrow
        ? [text(MARGIN, top + 16, colors.ink, name, { weight: 600 }), text(MARGIN, top + 16 + 18, colors.quiet, better)]
        : [
            text(MARGIN, top + 16, colors.ink, name, { weight: 600 }),
            text(widthOf(look) - MARGIN, top + 16, colors.quiet, better, { anchor: 'end' }),
          ];
      return [
        ...ticks.map(
          tick =>
            `<path d="M${at(tick).toFixed(1)} ${rowsTop - 2}v${measured.length * row + 4}" stroke="${tick === 1 ? colors.ink : colors.rule}"/>`,
        ),
        ...head,
        ...measured.flatMap(({ policy, ratios }, which) => {
          const [least, median, most] = ratios[index] ?? [1, 1, 1];
          const y = rowsTop + row / 2 + which * row;
          const color = colors.series[which % colors.series.length] ?? colors.ink;
          return [
            text(left - 14, y + 4, colors.quiet, policy, { anchor: 'end' }),
            `<path d="M${at(least).toFixed(1)} ${y}H${at(most).toFixed(1)}" stroke="${color}" stroke-width="6" stroke-linecap="round" stroke-opacity="0.35"/>`,
            `<circle cx="${at(median).toFixed(1)}" cy="${y}" r="5.5" fill="${color}"/>`,
          ];
        }),
      ];
    }),
    ...ticks.map(tick =>
      text(at(tick), bottom + 20, colors.quiet, tick === 1 ? 'as rr' : tick < 1 ? `1/${1 / tick}` : `× ${tick}`, {
        anchor: 'middle',
      }),
    ),
  ]);
}

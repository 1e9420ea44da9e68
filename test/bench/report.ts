/**
 * The report of a bench: runs benchmarks one after the other, prints one table and writes one JSON, of which docs/bench keeps some.
 *   ROUNDS=9 each comparison has so many rounds; SECONDS=2 for a measurement; QUICK=1 few and short ones; OUT=file.json
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { commit, type Machine, machine, progress } from './machine.ts';
import { type Comparison, type Figure, type Rounds, ratiosOf, spread, TooNoisy } from './rounds.ts';

export interface Settings {
  /** ROUNDS, or else `usual`; 3 for a quick look. */
  rounds(usual: Rounds): Rounds;
  /** Of one measurement under load: SECONDS, or else `usual`; 1 for a quick look. */
  seconds(usual: number): number;
  isQuick: boolean;
}

export type Benchmark = (settings: Settings) => Promise<Comparison[]>;

export interface Report {
  date: string;
  commit?: string;
  machine: Machine;
  /** Of what else took part: peers and generators. */
  versions: Record<string, string>;
  command: string;
  comparisons: Comparison[];
}

const OUT = process.env.OUT ?? 'test/output/bench.json';
const PATIENT =
  'Run it again when less else runs, or set MAX_FOREIGN and MAX_STEAL (percent of all CPUs) higher and trust the figures less.';

/** Sets the exit code 1 and writes nothing if the machine is too noisy. @throws what a benchmark throws */
export async function report(benchmarks: readonly Benchmark[], versions: Record<string, string> = {}): Promise<void> {
  const settings = settingsOf(process.env);
  const comparisons: Comparison[] = [];
  try {
    for (const benchmark of benchmarks) comparisons.push(...(await benchmark(settings)));
  } catch (error) {
    if (!(error instanceof TooNoisy)) throw error;
    console.error(`\nNo figures. ${error.message}.\n${PATIENT}`);
    process.exitCode = 1;
    return;
  }
  progress('');
  const known = commit();
  const done: Report = {
    date: new Date().toISOString().slice(0, 10),
    ...(known !== undefined && { commit: known }),
    machine: machine(),
    versions,
    command: commandOf(process.env),
    comparisons,
  };
  mkdirSync(dirname(OUT), { recursive: true });
  writeFileSync(OUT, jsonOf(done));
  console.log(`${textOf(done)}\n\n${OUT}`);
}

/** @throws Error with the variable's name if ROUNDS is no whole number of at least 1, or SECONDS no number above 0 */
export function settingsOf({ ROUNDS, SECONDS, QUICK = '' }: NodeJS.ProcessEnv): Settings {
  const isQuick = QUICK !== '';
  if (ROUNDS !== undefined && !/^[1-9]\d*$/.test(ROUNDS))
    throw new Error(`ROUNDS must be a whole number of at least 1, got "${ROUNDS}"`);
  if (SECONDS !== undefined && !(Number(SECONDS) > 0)) throw new Error(`SECONDS must be a number above 0, got "${SECONDS}"`);
  return {
    rounds: usual => (ROUNDS !== undefined ? Number(ROUNDS) : isQuick ? 3 : usual),
    seconds: usual => (SECONDS !== undefined ? Number(SECONDS) : isQuick ? 1 : usual),
    isQuick,
  };
}

/** As the Makefile calls it: `bench` for main.ts, `bench-overload` for overload.ts. */
function commandOf(env: NodeJS.ProcessEnv): string {
  const file = basename(process.argv[1] ?? '', '.ts');
  const given = ['ROUNDS', 'SECONDS', 'QUICK', 'ONLY', 'MAX_FOREIGN', 'MAX_STEAL', 'NODE_CLUSTER_SCHED_POLICY'].filter(
    name => env[name],
  );
  return [file === 'main' ? 'make bench' : `make bench-${file}`, ...given.map(name => `${name}=${env[name]}`)].join(' ');
}

/** A line for each series of values, with four digits each. */
export function jsonOf(done: Report): string {
  const text = JSON.stringify(done, (_, value) => (typeof value === 'number' ? Number(value.toPrecision(4)) : value), 1);
  return `${text.replace(/\[\s+([-\d.,\se+]+?)\s+\]/g, (_, numbers: string) => `[${numbers.replace(/\s+/g, ' ')}]`)}\n`;
}

/** One table in Markdown: what it costs in CPU time comes first, then rates. */
export function textOf(done: Report): string {
  const versions = Object.entries(done.versions).map(([name, version]) => `${name} ${version}`);
  const about = [
    machineText(done.machine),
    ...versions,
    done.date,
    ...(done.commit === undefined ? [] : [`commit ${done.commit}`]),
  ];
  const rows = done.comparisons.flatMap(comparison => [
    headOf(comparison),
    ...Object.keys(comparison.values).map(rowOf(comparison)),
  ]);
  return [
    `${about.join('; ')}; \`${done.command}\``,
    'min/median/max, and in parentheses the ratio of the same rounds to the baseline',
    '',
    '| | CPU | rate | other |',
    '|---|---|---|---|',
    ...rows,
    '',
    noiseText(done.comparisons),
  ].join('\n');
}

export function machineText({ cpus, model, isVirtual, kernel, node }: Machine): string {
  return `${cpus} × ${model}${isVirtual ? ', virtual' : ''}; ${kernel}; Node.js ${node}`;
}

function headOf({ title, rounds, discarded, baseline, values }: Comparison): string {
  const others = Object.keys(values).filter(subject => subject !== baseline).length;
  const compared = others > 0 ? `, against ${baseline}` : '';
  return `| **${title}**${compared}; ${rounds} ${rounds === 1 ? 'round' : 'rounds'}${discarded > 0 ? `, ${discarded} discarded` : ''} | | | |`;
}

const rowOf = (comparison: Comparison) => (subject: string) => {
  const cell = (kind: Figure['kind']) =>
    Object.entries(comparison.figures)
      .filter(([, figure]) => figure.kind === kind)
      .map(([name, figure]) => cellOf(comparison, subject, name, figure))
      .join('; ');
  return `| ${subject} | ${cell('cpu')} | ${cell('rate')} | ${cell('other')} |`.replace(/ {2,}\|/g, ' |');
};

function cellOf(comparison: Comparison, subject: string, name: string, { unit, digits }: Figure): string {
  const values = comparison.values[subject]?.[name] ?? [];
  const ratios = ratiosOf(comparison, subject, name);
  const ratio = subject === comparison.baseline || !ratios.every(Number.isFinite) ? '' : ` (${spread(ratios, 2)})`;
  return `${spread(values, digits)} ${unit}${ratio}`;
}

function noiseText(comparisons: readonly Comparison[]): string {
  const sum = (of: (comparison: Comparison) => number) => comparisons.reduce((total, comparison) => total + of(comparison), 0);
  const most = (of: (comparison: Comparison) => number) => `${(Math.max(0, ...comparisons.map(of)) * 100).toFixed(1)} %`;
  const discarded = sum(({ discarded }) => discarded);
  return (
    `${sum(({ rounds }) => rounds)} rounds count, ${discarded} ${discarded === 1 ? 'was' : 'were'} discarded. At most ` +
    `${most(({ noise }) => noise.foreign)} of the CPU time went to other processes in one that counts, ${most(({ noise }) => noise.steal)} to the hypervisor.`
  );
}

/**
 * `bosun sizing`: how many workers and why, also without a running primary and outside a container.
 */
import { statSync } from 'node:fs';
import { readConfig, readEnvironment } from '../config/config.ts';
import { splitNodeOptions } from '../config/parse.ts';
import { type Detected, detect } from '../resources/sizing.ts';
import { CommandError } from './client.ts';
import { table } from './table.ts';

const EX_USAGE = 64;

/**
 * What the command prints.
 * @throws ConfigError where the environment is malformed
 */
export function sizingCommand({ json, root }: { json: boolean; root: string }): string {
  if (!statSync(root, { throwIfNoEntry: false })?.isDirectory()) {
    throw new CommandError(`--root must be a folder that holds proc and sys, got ${JSON.stringify(root)}`, EX_USAGE);
  }
  const { environment, fromDotenv } = readEnvironment();
  const { workers, workerNodeOptions } = readConfig(environment, fromDotenv);
  const nodeOptions = {
    environment: splitNodeOptions(environment.NODE_OPTIONS ?? ''),
    commandLine: [],
    workers: workerNodeOptions ?? [],
  };
  const detected = detect(workers, nodeOptions, root);
  return json ? JSON.stringify(detected.sizing) : explain(detected);
}

function explain({ limits, sizing }: Detected): string {
  const levels = limits.levels.map(({ controller, file, text, value }) => [
    controller,
    file,
    text,
    value === null ? 'no limit' : String(value),
  ]);
  const { cpus, memory } = sizing;
  const results = [
    ['CPU quota', cpus.quota === null ? 'none' : `${cpus.quota} cores`],
    ['CPU set', cpus.cpuset === null ? 'unknown' : `${cpus.cpuset} CPUs`],
    ['effective CPUs', `${cpus.effective} (${cpus.source})`],
    ['memory limit', memory.limitBytes === null ? 'none' : `${Math.round(memory.limitBytes / 2 ** 20)} MiB (${memory.source})`],
    [
      'heap per worker',
      memory.heapPerWorkerMb === null ? "V8's default" : `${memory.heapPerWorkerMb} MiB (--max-old-space-size)`,
    ],
    ['workers', String(sizing.workers)],
  ];
  return [
    table([['controller', 'file', 'says', 'limit'], ...levels]),
    '',
    table(results),
    '',
    sizing.reason,
    ...sizing.warnings.map(warning => `warning: ${warning}`),
    ...limits.skipped.map(({ file, why }) => `skipped: ${file}: ${why}`),
  ].join('\n');
}

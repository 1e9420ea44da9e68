/**
 * `make loadtest`: finds a stack or starts one, loads it, reports, and stops what it started.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { availableParallelism, cpus, release } from 'node:os';
import { join } from 'node:path';
import { ConfigError, type Environment, readEnvironment } from '../config/config.ts';
import { POLICIES } from '../config/variables.ts';
import type { Context } from './measure.ts';
import { renderHtml, renderText } from './report.ts';
import { failuresOf, type Recorder, type Result, type Run } from './result.ts';
import { type Scenario, scenarios } from './scenarios.ts';
import { commandOf, readSettings, type Settings } from './settings.ts';
import { openStack, type Stack, startLocal } from './stack.ts';

/** As a shell reports a program that Ctrl-C ended. */
const EXIT_INTERRUPTED = 130;

const log = (line: string) => void process.stderr.write(`${line}\n`);

async function main(): Promise<number> {
  const { environment } = readEnvironment();
  const settings = readSettings(environment);
  const scenario: Scenario = scenarios[settings.scenario];
  checkSettings(settings, scenario);
  const compared = settings.compare === undefined ? undefined : await readResult(settings.compare);
  const stopped = stopOnSignal();

  const stacks = new Map<string, Stack>();
  const progress = new Progress(process.stderr);
  try {
    await open(settings, environment, stacks);
    const [stack] = stacks.values();
    if (stack === undefined) throw new Error('there is no stack to load');
    if (scenario.needsControl && stack.control === undefined) {
      const needed =
        'one whose control socket is on this machine (set PORT or CONTROL_SOCKET as for its primary), or the compose stack';
      throw new ConfigError([`SCENARIO=${settings.scenario} needs ${needed}; got ${stack.description}`]);
    }
    const startedAt = new Date();
    const status = await stack.status();
    const watch = progress.watch.bind(progress);
    const context: Context = { settings, stack, byPolicy: stacks, stopped, watch };
    const runs = await scenario.run(context);
    progress.end();
    const result: Result = {
      format: 1,
      scenario: settings.scenario,
      command: commandOf(environment),
      startedAt: startedAt.toISOString(),
      target: `${settings.url?.href ?? stack.origin} (${stack.description})`,
      environment: {
        'koa-bosun': status?.version ?? 'unknown',
        'Node.js': process.version,
        machine: `${availableParallelism()} × ${cpus()[0]?.model.trim() || process.arch}`,
        system: `${process.platform} ${release()}`,
        workers: status === undefined ? 'unknown' : String(status.workers.length),
        policy: stacks.size > 1 ? [...stacks.keys()].join(', ') : (status?.policy ?? 'unknown'),
        sizing: status?.sizing.reason ?? 'unknown',
        connections: String(settings.connections),
        rate: settings.rate === 0 ? 'closed loop' : `${settings.rate} per second, open loop`,
      },
      runs,
      problems: problemsOf(scenario, runs),
      interrupted: stopped.aborted,
    };
    await report(settings.out, result, compared);
    return result.problems.length > 0 ? 1 : 0;
  } finally {
    progress.end();
    for (const stack of stacks.values()) await stack.stop();
  }
}

/** Refuses settings that cannot work before anything is started. */
function checkSettings({ url, scenario: name }: Settings, { needsDemo }: Scenario): void {
  if (name === 'policies' && url !== undefined)
    throw new ConfigError(['SCENARIO=policies starts a local cluster for each policy: it takes no URL']);
  if (needsDemo && url !== undefined && url.pathname !== '/')
    throw new ConfigError([`SCENARIO=${name} requests routes of the demo app: URL must have no path, got ${url.href}`]);
}

/** Opens a stack, or one per policy at the same time. `stacks` has those that were opened even if a later one fails. */
async function open(settings: Settings, environment: Environment, stacks: Map<string, Stack>): Promise<void> {
  if (settings.scenario !== 'policies') {
    stacks.set(settings.scenario, await openStack(settings, environment, log));
    return;
  }
  for (const policy of POLICIES) {
    const ports = { port: await freePort(), adminPort: await freePort(), controlSocket: undefined };
    const extra = { NODE_CLUSTER_SCHED_POLICY: policy, CONTROL_SOCKET: '' };
    stacks.set(policy, await startLocal({ ...settings, ...ports }, environment, extra, log));
  }
}

/** A strict scenario fails with any failed request, every scenario without a successful one. */
function problemsOf({ strict }: Scenario, runs: readonly Run[]): string[] {
  return runs.flatMap(run => {
    if (run.requests === 0) return [`${run.label}: no request was answered`];
    const failed = failuresOf(run);
    return strict && failed > 0 ? [`${run.label}: ${failed} failed, none may: ${JSON.stringify(run.failures)}`] : [];
  });
}

async function report(folder: string, result: Result, compared: Result | undefined): Promise<void> {
  await mkdir(folder, { recursive: true });
  const [html, json] = [join(folder, 'report.html'), join(folder, 'result.json')];
  await writeFile(json, `${JSON.stringify(result, undefined, 1)}\n`);
  await writeFile(html, renderHtml(result, compared));
  process.stdout.write(`${renderText(result)}\n\n${html}  ${json}\n`);
}

/** @throws ConfigError */
async function readResult(path: string): Promise<Result> {
  try {
    const result = JSON.parse(await readFile(path, 'utf8')) as Partial<Result>;
    if (result.format === 1 && Array.isArray(result.runs)) return result as Result;
    throw new Error('not the result of a load test');
  } catch (error) {
    throw new ConfigError([`COMPARE must be an earlier result.json, got ${JSON.stringify(path)}: ${(error as Error).message}`]);
  }
}

/** The first signal ends the load, which is then reported; the second one exits. */
function stopOnSignal(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(EXIT_INTERRUPTED);
      log('\nstopping; press Ctrl-C again to exit at once');
      controller.abort();
    });
  }
  return controller.signal;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise(resolve => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error(`a TCP port was expected, got ${JSON.stringify(address)}`);
  return address.port;
}

const BAR_INTERVAL_MS = 250;
const LINE_INTERVAL_MS = 2_000;
const BAR_WIDTH = 24;

/** Shows the progress of a run: a bar on a terminal, a line every two seconds elsewhere. */
class Progress {
  readonly #out: NodeJS.WriteStream;
  #timer: NodeJS.Timeout | undefined;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  watch(label: string, recorder: Recorder, seconds: number): void {
    this.end();
    const show = () => this.#show(progressLine(label, recorder, seconds));
    this.#timer = setInterval(show, this.#out.isTTY ? BAR_INTERVAL_MS : LINE_INTERVAL_MS);
    if (!this.#out.isTTY) this.#out.write(`${label}: ${seconds} s\n`);
  }

  end(): void {
    clearInterval(this.#timer);
    if (this.#out.isTTY && this.#timer !== undefined) this.#out.write('\r\u001b[K');
    this.#timer = undefined;
  }

  #show(line: string): void {
    this.#out.write(this.#out.isTTY ? `\r\u001b[K${line}` : `${line}\n`);
  }
}

function progressLine(label: string, recorder: Recorder, seconds: number): string {
  const { latest } = recorder;
  const done = Math.min(1, recorder.seconds / seconds);
  const bar = '█'.repeat(Math.round(done * BAR_WIDTH)).padEnd(BAR_WIDTH, '░');
  const failed = Object.values(recorder.failures).reduce((sum, count) => sum + count, 0);
  const p99 = latest?.p99Ms == null ? '–' : `${latest.p99Ms.toFixed(1)} ms`;
  return `${label} ${bar} ${recorder.seconds.toFixed(0)}/${seconds.toFixed(0)} s  ${latest?.rate ?? 0} per second  p99 ${p99}  failed ${failed}`;
}

try {
  process.exitCode = await main();
} catch (error) {
  log(`loadtest: ${(error as Error).message}`);
  process.exitCode = error instanceof ConfigError ? 78 : 1;
}

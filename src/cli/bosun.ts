#!/usr/bin/env node
/**
 * The operator's command line. It imports nothing of the primary or the workers: it asks the primary over its control socket, and
 * `bosun start` becomes one by way of main.ts.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ConfigError, controlSocketOf, readConfig, readEnvironment } from '../config/config.ts';
import { workingDirectory } from '../config/working-directory.ts';
import { CommandError, call, stream } from './client.ts';
import { type Member, renderFleet } from './fleet.ts';
import { sizingCommand } from './sizing.ts';
import { renderStatus, type Status } from './status.ts';
import { table } from './table.ts';
import { watchStatus } from './watch.ts';

const USAGE = `usage: bosun <command> [options]

  start [MODULE]                serve the app, in the foreground; MODULE is as APP_MODULE
  status [--watch]              the pool and its workers; watched, what the dashboard shows
  restart [--worker N]          replace all workers, or one, the new one first where memory allows; 0 only when the new ones serve
  scale N|auto|max|P% [--force] another number of workers, as in NODE_CLUSTER_WORKERS; 0 only when they serve
  cordon N, uncordon N          no new connections for worker N, or again
  policy NAME                   the balancing policy
  broadcast EVENT [JSON]        an event for every worker of every pod
  fleet                         the pods of this deployment, as they tell over Redis
  keys rotate                   a new session key for every pod; nobody is logged out
  heap-snapshot [--worker N] [--output FILE|-]
  cpu-profile [--worker N] [--seconds S] [--output FILE|-]
  doctor                        what is wrong with this deployment, or will be
  sizing [--root DIR]           how many workers this container should run, and why; needs no primary

--json for machines, everywhere. --socket PATH where PORT or CONTROL_SOCKET of the environment are not the primary's.
`;

/** As in sysexits. */
const EX_USAGE = 64;
const EX_CONFIG = 78;

interface Options {
  json: boolean;
  socket: string;
  watch: boolean;
  force: boolean;
  worker: number | undefined;
  seconds: number | undefined;
  output: string | undefined;
  root: string;
}

/** A command prints, and gives its exit code. */
type Command = (options: Options, operands: string[]) => Promise<number>;

const COMMANDS: Record<string, Command> = {
  start: async (_options, [module]) => {
    if (module !== undefined) {
      const file = resolve(workingDirectory(), module);
      if (!existsSync(file))
        throw new CommandError(`start needs the file of a module, got "${module}": there is no ${file}`, EX_CONFIG);
      process.env.APP_MODULE = file;
    }
    process.argv.splice(2); // workers get a copy, and the app in them may read it
    await import('../main.ts');
    return Number(process.exitCode ?? 0);
  },
  status: async ({ json, socket, watch }) => {
    if (watch) return watchStatus(socket, json);
    const status = (await call(socket, 'status')) as Status;
    print(json ? JSON.stringify(status) : renderStatus(status));
    return 0;
  },
  restart: async ({ json, socket, worker }) => {
    const steps = json ? () => undefined : print;
    const { generation } = (await call(socket, 'restart', { worker }, steps)) as { generation: number };
    const done = worker === undefined ? `generation ${generation} serves` : `worker ${worker} is replaced`;
    print(json ? JSON.stringify({ generation }) : `done: ${done}`);
    return 0;
  },
  scale: async ({ json, socket, force }, [workers]) => {
    const result = (await call(socket, 'scale', { workers: operand(workers, 'N|auto|max|P%'), force })) as {
      workers: number;
      reason: string;
      warnings?: string[];
    };
    print(json ? JSON.stringify(result) : result.reason);
    if (!json) for (const warning of result.warnings ?? []) process.stderr.write(`bosun: warning: ${warning}\n`);
    return 0;
  },
  cordon: async ({ json, socket }, [worker]) => {
    const result = (await call(socket, 'cordon', { worker: workerNumber(worker) })) as { worker: number };
    print(json ? JSON.stringify(result) : `worker ${result.worker} takes no new connections`);
    return 0;
  },
  uncordon: async ({ json, socket }, [worker]) => {
    const result = (await call(socket, 'uncordon', { worker: workerNumber(worker) })) as { worker: number };
    print(json ? JSON.stringify(result) : `worker ${result.worker} takes connections again`);
    return 0;
  },
  policy: async ({ json, socket }, [name]) => {
    const result = (await call(socket, 'policy', { name: operand(name, 'NAME') })) as { policy: string };
    print(json ? JSON.stringify(result) : `the policy is ${result.policy}`);
    return 0;
  },
  broadcast: async ({ json, socket }, [event, data]) => {
    const result = (await call(socket, 'broadcast', { event: operand(event, 'EVENT'), data: parseJson(data) })) as {
      workers: number;
      otherPods?: 'sent' | 'later' | 'never';
    };
    const remote = result.otherPods === undefined ? '' : OTHER_PODS[result.otherPods];
    print(json ? JSON.stringify(result) : `sent to ${result.workers} workers${remote}`);
    return result.otherPods === undefined || result.otherPods === 'sent' ? 0 : 1;
  },
  fleet: async ({ json, socket }) => {
    const fleet = (await call(socket, 'fleet')) as { pods: Member[] };
    print(json ? JSON.stringify(fleet) : renderFleet(fleet.pods));
    return 0;
  },
  keys: async ({ json, socket }, [action]) => {
    if (operand(action, 'rotate') !== 'rotate')
      throw new CommandError(`keys takes "rotate", got "${action}"\n\n${USAGE}`, EX_USAGE);
    const result = await call(socket, 'rotate-keys', {}, json ? () => undefined : print);
    if (json) print(JSON.stringify(result));
    return 0;
  },
  'heap-snapshot': options => diagnose('heap-snapshot', options),
  'cpu-profile': options => diagnose('cpu-profile', options),
  doctor: async ({ json, socket }) => {
    const findings = (await call(socket, 'doctor')) as { check: string; verdict: string; detail: string }[];
    print(json ? JSON.stringify(findings) : table(findings.map(({ check, verdict, detail }) => [verdict, check, detail])));
    return findings.some(({ verdict }) => verdict === 'problem') ? 1 : 0;
  },
  sizing: async ({ json, root }) => {
    print(sizingCommand({ json, root }));
    return 0;
  },
};

const OTHER_PODS = {
  sent: ', and to the other pods',
  later: '; Redis is away: the other pods get it when it is back',
  never: '; Redis is away: the other pods do not get it',
};

/** How many operands a command takes, where it takes any. */
const OPERANDS: Record<string, number> = { start: 1, scale: 1, cordon: 1, uncordon: 1, policy: 1, broadcast: 2, keys: 1 };

async function diagnose(command: string, { json, socket, worker, seconds, output }: Options): Promise<number> {
  const parameters = { worker, seconds };
  if (output === '-') {
    await stream(socket, command, parameters, process.stdout);
    return 0;
  }
  // The worker that writes it may have another working directory.
  const file = output === undefined ? undefined : resolve(output);
  const result = (await call(socket, command, { ...parameters, output: file })) as { worker: number; file: string };
  print(json ? JSON.stringify(result) : `worker ${result.worker}: ${result.file}`);
  return 0;
}

async function run(args: string[]): Promise<number> {
  const [name = '', ...rest] = args;
  if (name === 'help' || name === '--help') {
    print(USAGE.trimEnd());
    return 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw new CommandError(name === '' ? USAGE : `there is no command "${name}"\n\n${USAGE}`, EX_USAGE);
  const { values, positionals } = parse(rest);
  // `restart 3` is not `restart --worker 3`.
  const surplus = positionals[OPERANDS[name] ?? 0];
  if (surplus !== undefined) throw new CommandError(`${name} does not take "${surplus}"\n\n${USAGE}`, EX_USAGE);
  const options = {
    json: values.json ?? false,
    watch: values.watch ?? false,
    force: values.force ?? false,
    worker: values.worker === undefined ? undefined : workerNumber(values.worker),
    seconds: values.seconds === undefined ? undefined : secondsOf(values.seconds),
    output: values.output,
    root: values.root ?? '/',
    socket: values.socket ?? defaultSocket(),
  };
  return command(options, positionals);
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        json: { type: 'boolean' },
        watch: { type: 'boolean' },
        force: { type: 'boolean' },
        worker: { type: 'string' },
        seconds: { type: 'string' },
        output: { type: 'string' },
        root: { type: 'string' },
        socket: { type: 'string' },
      },
    });
  } catch (error) {
    throw new CommandError(`${(error as Error).message}\n\n${USAGE}`, EX_USAGE);
  }
}

/** Where a primary with this environment listens. */
function defaultSocket(): string {
  const { environment, fromDotenv } = readEnvironment();
  const config = readConfig(environment, fromDotenv);
  return controlSocketOf(config, config.port);
}

function operand(value: string | undefined, name: string): string {
  if (value === undefined) throw new CommandError(`${name} is missing\n\n${USAGE}`, EX_USAGE);
  return value;
}

function workerNumber(value: string | undefined): number {
  const number = Number(operand(value, 'N'));
  if (!Number.isSafeInteger(number) || number < 1)
    throw new CommandError(`a worker is a whole number of at least 1, got "${value}"`, EX_USAGE);
  return number;
}

function secondsOf(value: string): number {
  const seconds = Number(value);
  if (!(seconds > 0)) throw new CommandError(`--seconds must be a number above 0, got "${value}"`, EX_USAGE);
  return seconds;
}

function parseJson(text: string | undefined): unknown {
  try {
    return text === undefined ? null : JSON.parse(text);
  } catch (error) {
    throw new CommandError(`the data of an event must be JSON: ${(error as Error).message}`, EX_USAGE);
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

try {
  process.exitCode = await run(process.argv.slice(2));
} catch (error) {
  const { message } = error as Error;
  process.stderr.write(`bosun: ${message}\n`);
  process.exitCode = error instanceof CommandError ? error.exitCode : error instanceof ConfigError ? EX_CONFIG : 1;
}

#!/usr/bin/env node
/**
 * The operator's command line: parses arguments and prints results. It imports nothing of the primary or the workers: commands run in
 * the primary, over its control socket, and `bosun start` becomes a primary through main.ts.
 */
import { readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { styleText } from 'node:util';
import { Argument, Command, CommanderError, Option } from 'commander';
import { ConfigError, readConfig, readEnvironment } from '../config/config.ts';
import { CLI_EXIT_CODE_MEANINGS, CliExitCode } from '../protocol/exit.ts';
import { parseJson, secondsOf, workerNumber } from './arguments.ts';
import { CommandError, call, stream } from './client.ts';
import { controlPath } from './control-path.ts';
import { DETAILS } from './details.ts';
import type { DevOptions } from './dev.ts';
import type { InitOptions } from './init.ts';
import { renderFindings, renderFleet, renderSizing, renderStatus } from './render.ts';
import { type Preloads, splitArguments, start, startDemo } from './start.ts';

/** The options of every command. */
interface Common {
  json?: true;
  socket?: string;
}

const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8')) as {
  version: string;
};

const EXIT_CODES = Object.entries(CLI_EXIT_CODE_MEANINGS)
  .map(entry => entry.join(' '))
  .join(', ');

const program = new Command('bosun')
  .description('Operates a koa-bosun deployment: the primary on this machine, over its control socket.')
  .usage('<command> [options]')
  .version(version, '-V, --version', 'print the version')
  .helpOption('-h, --help', 'print this help')
  .helpCommand('help [command]', 'print the help of a command')
  .commandsGroup('More:')
  .configureHelp({
    styleTitle: title => styleText('bold', title, { validateStream: false }),
    styleCommandText: name => styleText('bold', name, { validateStream: false }),
    styleSubcommandTerm: term => styleText('bold', term, { validateStream: false }),
  })
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'bosun: ')) })
  .showHelpAfterError('Run "bosun --help" or "bosun help COMMAND".')
  .exitOverride()
  .addHelpText('after', `\nExit codes: ${EXIT_CODES}.`);

/** Declares a command with the options that all commands have. */
function command(group: string, usage: string, summary: string, examples: string[] = []): Command {
  const declared = program
    .command(usage)
    .description(summary)
    .helpGroup(`${group}:`)
    .option('--json', 'print JSON')
    .option('--socket <PATH>', 'control socket (default: from PORT or CONTROL_SOCKET)');
  const details = DETAILS[declared.name()];
  if (details !== undefined) declared.addHelpText('after', `\n${details}`);
  return examples.length === 0 ? declared : declared.addHelpText('after', `\nExamples:\n  ${examples.join('\n  ')}`);
}

const worker = new Option('--worker <N>', 'only this worker').argParser(workerNumber);

const collect = (value: string, values: string[] = []) => [...values, value];
const list = (value: string) => value.split(',').filter(Boolean);
const { own: ownArguments, app: appArguments } = splitArguments(process.argv);

/** Declares a command that serves an app. */
const serving = (...declaration: Parameters<typeof command>) =>
  command(...declaration)
    .option('--import <MODULE>', 'load this ES module first, in the workers (repeatable)', collect)
    .option('--require <MODULE>', 'load this CommonJS module first, in the workers (repeatable)', collect);

serving(
  'Run',
  'start [MODULE]',
  'serve the app in the foreground: MODULE, else APP_MODULE, else the main module of package.json',
  [
    'bosun start ./server.js',
    'bosun start . -- settings.json      # the arguments of the app follow --',
    'bosun start --import tsx ./src/server.ts',
  ],
).action(async (module: string | undefined, preloads: Common & Preloads) => start(module, preloads, appArguments));

serving('Run', 'dev [MODULE]', 'serve the app for development: one worker, and a save loads the new code', [
  'bosun dev ./server.js',
  'bosun dev --inspect --open',
  "bosun dev ./server.ts --watch 'views/**/*.ejs' --watch locales/*.json",
])
  .option('--workers <N>', 'how many workers', workerNumber)
  .option('--watch <GLOB>', 'also reload when such a file is saved (repeatable)', collect)
  .option('--inspect [HOST:PORT]', 'open the inspector of each worker, from 127.0.0.1:9229 on; written with "="')
  .option('--inspect-brk [HOST:PORT]', 'the same, and wait for a debugger before the app is loaded')
  .option('--open', 'open the browser once the app serves')
  .action(async (module: string | undefined, options: DevOptions & Preloads) => {
    await (await import('./dev.ts')).prepareDevelopment(options);
    await start(module, options, appArguments);
  });

command(
  'Set up',
  'init',
  'write a Dockerfile, compose.yaml, manifests for Kubernetes and a CI workflow for the app in the working directory',
  ['npx koa-bosun init', 'npx koa-bosun init --yes --image registry/shop:2.0.0', 'npx koa-bosun init --dry-run'],
)
  .option('--yes', 'take the defaults, without a question')
  .option('--dry-run', 'write nothing, print a unified diff')
  .option('--force', 'also overwrite what exists and differs')
  .option('--helm', 'write a Helm chart in place of manifests for kustomize')
  .option('--namespace <NAMESPACE>', 'namespace in Kubernetes (default: the name)')
  .option(
    '--components <NAMES>',
    'components of k8s/components, separated by commas (default: redis where it is used, network-policy)',
    list,
  )
  .option('--name <NAME>', 'name of the app (default: of package.json)')
  .option('--image <IMAGE>', 'image, with a tag (default: name and version of package.json)')
  .option('--module <FILE>', 'module of the app, as bosun start has it (default: what npm start runs)')
  .option('--port <PORT>', 'port of the app in its container (default: as in its source, else 3000)', Number)
  .option('--redis', 'with Redis (default: if the app uses sessions or Redis)')
  .option('--no-redis', 'without Redis')
  .action(async (options: Common & InitOptions) => (await import('./init.ts')).init(options));

command('Set up', 'upgrade', 'compare what bosun init wrote with the templates of this version; exit code 1 if they differ', [
  'npx bosun upgrade --check',
])
  .requiredOption('--check', 'print the differences, write nothing')
  .action(async (options: Common) => (await import('./init.ts')).upgradeCheck(options));

command('Run', 'demo', 'serve the demo app of koa-bosun').action(async () => startDemo(appArguments));

command('Inspect', 'status', 'print the pool and its workers', ['bosun status --watch', 'bosun status --json | jq .workers'])
  .option('--watch', 'refresh every second, with what the dashboard shows')
  .action(async ({ watch, json, ...options }: Common & { watch?: true }) => {
    if (watch) return (await import('./watch.ts')).watchStatus(socketOf(options), json === true);
    const status = await call(socketOf(options), 'status');
    print(json ? JSON.stringify(status) : renderStatus(status));
  });

command('Inspect', 'fleet', "list this deployment's pods (needs Redis)").action(async ({ json, ...options }: Common) => {
  const fleet = await call(socketOf(options), 'fleet');
  print(json ? JSON.stringify(fleet) : renderFleet(fleet.pods));
});

command('Inspect', 'doctor', 'check this deployment; exit code 1 if there is a problem').action(
  async ({ json, ...options }: Common) => {
    const findings = await call(socketOf(options), 'doctor');
    print(json ? JSON.stringify(findings) : renderFindings(findings));
    if (findings.some(({ verdict }) => verdict === 'problem')) process.exitCode = 1;
  },
);

command('Inspect', 'sizing', 'explain how many workers this container should run; needs no primary', [
  'docker run --rm --cpus 1.5 -m 512m koa-bosun:0.1.0 bosun sizing',
])
  .option('--root <DIR>', 'read proc and sys below this folder', '/')
  .action(async ({ json, root }: Common & { root: string }) => {
    if (!statSync(root, { throwIfNoEntry: false })?.isDirectory())
      throw new CommandError(`--root must be a folder that holds proc and sys, got ${JSON.stringify(root)}`, CliExitCode.usage);
    const [{ detect }, { splitNodeOptions }] = await Promise.all([
      import('../resources/sizing.ts'),
      import('../config/parse.ts'),
    ]);
    const { environment, fromDotenv } = readEnvironment();
    const { workers, workerNodeOptions } = readConfig(environment, fromDotenv);
    const nodeOptions = {
      environment: splitNodeOptions(environment.NODE_OPTIONS ?? ''),
      commandLine: [],
      workers: workerNodeOptions ?? [],
    };
    const detected = detect(workers, nodeOptions, root);
    print(json ? JSON.stringify(detected.sizing) : renderSizing(detected));
  });

command('Change', 'restart', 'replace all workers without dropping a request; exit code 0 once the new ones serve', [
  'bosun restart',
  'bosun restart --worker 2',
])
  .addOption(worker)
  .action(async ({ json, worker, ...options }: Common & { worker?: number }) => {
    const steps = json ? () => undefined : print;
    const { generation } = await call(socketOf(options), 'restart', { worker }, steps);
    const done = worker === undefined ? `generation ${generation} serves` : `worker ${worker} is replaced`;
    print(json ? JSON.stringify({ generation }) : `done: ${done}`);
  });

command('Change', 'scale <N|auto|max|P%>', 'change the number of workers; exit code 0 once they serve', [
  'bosun scale 4',
  'bosun scale auto',
  'bosun scale 50%',
])
  .option('--force', 'even without memory for a workable heap in each')
  .action(async (workers: string, { json, force = false, ...options }: Common & { force?: boolean }) => {
    const result = await call(socketOf(options), 'scale', { workers, force });
    print(json ? JSON.stringify(result) : result.reason);
    if (!json) for (const warning of result.warnings ?? []) process.stderr.write(`bosun: warning: ${warning}\n`);
  });

for (const [name, summary, done] of [
  ['cordon', 'stop sending new connections to worker N', 'takes no new connections'],
  ['uncordon', 'resume sending new connections to worker N', 'takes connections again'],
] as const) {
  command('Change', name, summary, [`bosun ${name} 2`])
    .argument('<N>', 'the worker', workerNumber)
    .action(async (worker: number, { json, ...options }: Common) => {
      const result = await call(socketOf(options), name, { worker });
      print(json ? JSON.stringify(result) : `worker ${result.worker} ${done}`);
    });
}

command('Change', 'policy <NAME>', 'change the balancing policy', ['bosun policy least-connections']).action(
  async (name: string, { json, ...options }: Common) => {
    const result = await call(socketOf(options), 'policy', { name });
    print(json ? JSON.stringify(result) : `the policy is ${result.policy}`);
  },
);

/** Whether the other pods receive a broadcast. */
const OTHER_PODS = {
  sent: ', and to the other pods',
  later: '; Redis is unavailable: the other pods receive it once it is back',
  never: '; Redis is unavailable: the other pods do not receive it',
};

command('Change', 'broadcast <EVENT> [JSON]', 'send an event to every worker of every pod; exit code 1 if other pods miss it', [
  `bosun broadcast configUpdate '{"greeting":"Ahoy"}'`,
]).action(async (event: string, data: string | undefined, { json, ...options }: Common) => {
  const result = await call(socketOf(options), 'broadcast', { event, data: parseJson(data) });
  const { workers, otherPods } = result;
  print(json ? JSON.stringify(result) : `sent to ${workers} workers${otherPods === undefined ? '' : OTHER_PODS[otherPods]}`);
  if (otherPods === 'later' || otherPods === 'never') process.exitCode = 1;
});

command('Change', 'keys', 'introduce a new session key in every pod; nobody is logged out', ['bosun keys rotate'])
  .addArgument(new Argument('<ACTION>', 'what to do').choices(['rotate']))
  .action(async (_action: string, { json, ...options }: Common) => {
    const result = await call(socketOf(options), 'rotate-keys', {}, json ? () => undefined : print);
    if (json) print(JSON.stringify(result));
  });

command('Change', 'service', 'end a change of SERVICE_NAME; nobody is logged out', ['bosun service migrate'])
  .addArgument(new Argument('<ACTION>', 'what to do').choices(['migrate']))
  .option('--keep', 'other apps use the names before: leave those, and do not wait for their pods')
  .action(async (_action: string, { json, keep, ...options }: Common & { keep?: boolean }) => {
    const result = await call(socketOf(options), 'migrate-service', { keep }, json ? () => undefined : print);
    if (json) print(JSON.stringify(result));
  });

const output = new Option('--output <FILE>', 'where to write it; "-" streams it to standard output');

command('Diagnose', 'heap-snapshot', 'write a heap snapshot of a worker, out of rotation', [
  'bosun heap-snapshot --worker 2',
  'kubectl exec deploy/app -- bosun heap-snapshot --output - > app.heapsnapshot',
])
  .addOption(worker)
  .addOption(output)
  .action((options: Diagnosis) => diagnose('heap-snapshot', options));

command('Diagnose', 'cpu-profile', 'profile the CPU of a worker', ['bosun cpu-profile --worker 2 --seconds 10'])
  .addOption(worker)
  .addOption(output)
  .option('--seconds <S>', 'how long to profile', secondsOf)
  .action((options: Diagnosis) => diagnose('cpu-profile', options));

interface Diagnosis extends Common {
  worker?: number;
  seconds?: number;
  output?: string;
}

async function diagnose(
  name: 'heap-snapshot' | 'cpu-profile',
  { json, worker, seconds, output, ...options }: Diagnosis,
): Promise<void> {
  const parameters = { worker, seconds };
  if (output === '-') return stream(socketOf(options), name, parameters, process.stdout);
  // The worker that writes it may have another working directory.
  const file = output === undefined ? undefined : resolve(output);
  const result = await call(socketOf(options), name, { ...parameters, output: file });
  print(json ? JSON.stringify(result) : `worker ${result.worker}: ${result.file}`);
}

program
  .command('completion')
  .description('print the completion script for a shell')
  .addArgument(new Argument('<SHELL>', 'the shell').choices(['bash', 'zsh', 'fish']))
  .addHelpText(
    'after',
    '\nExamples:\n  source <(bosun completion bash)\n  bosun completion fish > ~/.config/fish/completions/bosun.fish',
  )
  .action(async (shell: string) => (await import('./completion.ts')).printScript(shell));

/** The control socket of a primary with this environment. */
function socketOf({ socket }: Common): string {
  if (socket !== undefined) return socket;
  const { environment, fromDotenv } = readEnvironment();
  return controlPath(environment, fromDotenv);
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Sets the exit code of an error, and prints it unless commander has. */
function fail(error: unknown): void {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : CliExitCode.usage;
    return;
  }
  process.stderr.write(`bosun: ${(error as Error).message}\n`);
  process.exitCode =
    error instanceof CommandError ? error.exitCode : error instanceof ConfigError ? CliExitCode.badConfig : CliExitCode.failed;
}

try {
  // The shell scripts call `bosun complete -- WORDS`.
  if (process.argv[2] === 'complete') await (await import('./completion.ts')).complete(program, process.argv.slice(4), socketOf);
  else await program.parseAsync(ownArguments);
} catch (error) {
  fail(error);
}

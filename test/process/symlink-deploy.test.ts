/**
 * Releases in folders of their own, and a link that names the current one.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { everyWorker } from './clients.ts';
import { CLEAN, type Kit, ROOT } from './kit.ts';
import { startOperated, temporaryFolder } from './operator.ts';

function releases() {
  const folder = temporaryFolder();
  const current = join(folder, 'current');
  const at = (release: number) => join(folder, String(release));
  return {
    current,
    write: (release: number, head = '') => {
      mkdirSync(at(release));
      writeFileSync(join(at(release), '.env'), `GREETING=of ${release}`);
      const answer = `JSON.stringify({ pid: process.pid, said: 'release ${release} ' + process.env.GREETING, cwd: process.cwd() })`;
      writeFileSync(join(at(release), 'app.mjs'), `${head}\nexport default (req, res) => res.end(${answer});`);
    },
    remove: (release: number) => rmSync(at(release), { recursive: true }),
    // Like `ln -sfn` and Capistrano: there is always a current release.
    switchTo: (release: number) => {
      symlinkSync(at(release), `${current}.new`);
      renameSync(`${current}.new`, current);
    },
  };
}

/** The answers of both workers; only one if they are the same. */
async function served(port: number): Promise<string> {
  const said = new Set<string>();
  await everyWorker(port, 2, async client => {
    const answer = await client.requestJson<{ pid: number; said: string; cwd: string }>('/');
    said.add(`${answer.said} in ${answer.cwd.split('/').at(-1)}`);
    return answer.pid;
  });
  return [...said].join();
}

/** Kills a worker; resolves when another one serves in its place. */
async function replaced(kit: Kit): Promise<void> {
  const { workers } = await kit.statusWhere(status => status.workers.filter(({ state }) => state === 'ready').length === 2);
  const [victim] = workers;
  assert.ok(victim);
  process.kill(victim.pid, 'SIGKILL');
  await kit.statusWhere(
    status => status.workers.filter(({ state, pid }) => state === 'ready' && pid !== victim.pid).length === 2,
  );
}

for (const [how, module] of [
  ['relative to it', () => 'app.mjs'],
  ['by its path', (current: string) => join(current, 'app.mjs')],
] as const)
  test(`a rolling restart serves the release that the symlink of the working directory points to now, APP_MODULE ${how}`, async () => {
    const { current, write, switchTo, remove } = releases();
    write(1);
    write(2);
    switchTo(1);
    const env = { PWD: current, APP_MODULE: module(current) };
    const { kit, port, bosun } = await startOperated({ cwd: current, env });
    assert.equal(await served(port), 'release 1 of 1 in 1');

    switchTo(2);
    await replaced(kit);
    assert.equal(await served(port), 'release 1 of 1 in 1', 'a worker that dies is replaced by one of its release');
    assert.equal((await bosun('restart')).code, 0);
    assert.equal(await served(port), 'release 2 of 2 in 2');

    write(3, "throw new Error('broken');");
    switchTo(3);
    const refused = await bosun('restart');
    assert.equal(refused.code, 1, refused.stdout);
    await replaced(kit);
    assert.equal(await served(port), 'release 2 of 2 in 2', 'a release that does not start is refused, also for replacements');

    write(4);
    switchTo(4);
    for (const old of [1, 2, 3]) remove(old);
    await replaced(kit);
    assert.match(
      await served(port),
      /release 4 of 2 in 4/,
      'a worker whose release has been removed is replaced with the current one',
    );
    assert.equal((await bosun('restart')).code, 0);
    assert.equal(await served(port), 'release 4 of 4 in 4');

    rmSync(current);
    const gone = await bosun('restart');
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /the working directory \S+current must exist, got ENOENT/);
    assert.equal(await served(port), 'release 4 of 4 in 4');
  });

test('a kit deployed with the app continues to run when its release is removed', async () => {
  const { current, write, switchTo, remove } = releases();
  const deploy = (release: number) => {
    write(release);
    const kit = join(dirname(current), String(release), 'kit');
    for (const part of ['src', 'package.json']) cpSync(join(ROOT, part), join(kit, part), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(kit, 'node_modules'));
    switchTo(release);
  };
  deploy(1);
  const { kit, port, bosun } = await startOperated({
    cwd: current,
    command: [process.execPath, join(current, 'kit', 'src', 'main.ts')],
    env: { PWD: current, APP_MODULE: 'app.mjs' },
  });
  assert.equal((await kit.probe('/metrics')).status, 200);
  deploy(2);
  remove(1);
  await replaced(kit);
  assert.equal((await bosun('restart')).code, 0);
  assert.equal(await served(port), 'release 2 of 2 in 2');
  assert.equal((await kit.probe('/metrics')).status, 200);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
});

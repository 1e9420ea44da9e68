/**
 * Which Unix sockets `bosun` and the workers connect to, and where the primary creates its own, in a folder where other users can write too.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, lchownSync, lstatSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ControlSocket } from '../src/control/socket.ts';
import { connectTrusted } from '../src/protocol/trusted-socket.ts';
import { temporaryFolder } from './process/operator.ts';

const NOBODY = 65_534;
/** Only root may create files of other users. */
const asRoot = { skip: process.getuid?.() === 0 ? false : 'only root can make the socket of another user' };
const FOREIGN = /must belong to user 0, got user 65534; run bosun as that user/;

/** Like /tmp: every user can write there. */
function sharedFolder(): string {
  const folder = temporaryFolder();
  chmodSync(folder, 0o1777);
  return folder;
}

async function listen(path: string) {
  let connections = 0;
  const server = createServer(socket => {
    connections++;
    socket.on('error', () => undefined).resume();
  });
  server.listen(path);
  after(() => server.close());
  await once(server, 'listening');
  return { path, connections: () => connections };
}

describe('a Unix socket', () => {
  test('a Unix socket of our own is connected to, through a link of our own too', async () => {
    const folder = sharedFolder();
    const { path } = await listen(join(folder, 'own.sock'));
    (await connectTrusted(path)).destroy();
    symlinkSync(path, join(folder, 'link.sock'));
    (await connectTrusted(join(folder, 'link.sock'))).destroy();
  });

  test('a Unix socket of another user is refused, and so is a link to it or of that user', asRoot, async () => {
    const folder = sharedFolder();
    const own = await listen(join(folder, 'own.sock'));
    const planted = await listen(join(folder, 'planted.sock'));
    chownSync(planted.path, NOBODY, NOBODY);
    await assert.rejects(connectTrusted(planted.path), FOREIGN);
    symlinkSync(planted.path, join(folder, 'to-planted.sock'));
    await assert.rejects(connectTrusted(join(folder, 'to-planted.sock')), FOREIGN);
    symlinkSync(own.path, join(folder, 'planted-link.sock'));
    lchownSync(join(folder, 'planted-link.sock'), NOBODY, NOBODY);
    await assert.rejects(connectTrusted(join(folder, 'planted-link.sock')), FOREIGN);
    assert.deepEqual([planted.connections(), own.connections()], [0, 0]);
  });

  test('a path that is not a socket is refused', async () => {
    const folder = sharedFolder();
    writeFileSync(join(folder, 'file'), '');
    mkdirSync(join(folder, 'folder'));
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    await assert.rejects(connectTrusted(join(folder, 'file')), /file must be a socket, got a file/);
    await assert.rejects(connectTrusted(join(folder, 'folder')), /folder must be a socket, got a directory/);
    await assert.rejects(connectTrusted(join(folder, 'pipe')), /pipe must be a socket, got a device or pipe/);
    await assert.rejects(connectTrusted(join(folder, 'missing')), { code: 'ENOENT' });
  });

  test('a Unix socket that replaces the checked one is refused', async () => {
    const folder = sharedFolder();
    const { path } = await listen(join(folder, 'own.sock'));
    const other = await listen(join(folder, 'other.sock'));
    const connecting = connectTrusted(path);
    renameSync(other.path, path);
    await assert.rejects(connecting, /own\.sock was replaced while connecting/);
  });
});

describe('the control socket', () => {
  test('the control socket has mode 0600 as soon as it exists, whatever the umask', async () => {
    const path = join(sharedFolder(), 'control.sock');
    const socket = new ControlSocket(path, {});
    const umask = process.umask(0);
    const opening = socket.open();
    let mode: number | undefined;
    while (mode === undefined) {
      mode = lstatSync(path, { throwIfNoEntry: false })?.mode;
      await new Promise(setImmediate);
    }
    await opening;
    assert.equal(process.umask(umask), 0);
    assert.equal(mode & 0o777, 0o600);
    socket.close();
  });

  test('the control socket does not replace a socket of another user', asRoot, async () => {
    const folder = sharedFolder();
    const planted = await listen(join(folder, 'planted.sock'));
    process.seteuid?.(NOBODY);
    try {
      await assert.rejects(
        new ControlSocket(planted.path, {}).open(),
        /planted\.sock must belong to user 65534, or not exist, got a socket of user 0 \(CONTROL_SOCKET\)/,
      );
    } finally {
      process.seteuid?.(0);
    }
    assert.equal(planted.connections(), 0);
  });
});

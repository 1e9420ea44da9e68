import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { controlPath } from '../src/cli/control-path.ts';

const before = process.env.TMPDIR;
const folder = mkdtempSync(join(tmpdir(), 'bosun-test-'));
process.env.TMPDIR = folder;
after(() => {
  process.env.TMPDIR = before ?? '';
  rmSync(folder, { recursive: true });
});
const at = (name: string) => join(folder, name);

async function socketAt(name: string): Promise<Server> {
  const server = createServer().listen(at(name));
  await once(server, 'listening');
  after(() => server.close());
  return server;
}

test('the control socket is that of the port or HOST, and without them the only one there is', async () => {
  writeFileSync(at('bosun-1.sock'), 'no socket');
  assert.equal(controlPath({}), at('bosun-3000.sock'));
  const server = await socketAt('bosun-run-app.sock.sock');
  assert.equal(controlPath({}), at('bosun-run-app.sock.sock'));
  server.close();
  await socketAt('bosun-8080.sock');
  assert.equal(controlPath({}), at('bosun-8080.sock'));
  assert.equal(controlPath({ HOST: 'unix:/run/b.sock' }), at('bosun-run-b.sock.sock'), 'not the only one there is');
  assert.equal(controlPath({ PORT: '4000' }), at('bosun-4000.sock'));
  assert.equal(controlPath({ CONTROL_SOCKET: '/run/own.sock' }), '/run/own.sock');
  await socketAt('bosun-8081.sock');
  assert.equal(controlPath({}), at('bosun-3000.sock'), 'one of two would be a guess');
  await socketAt('bosun-3000.sock');
  assert.equal(controlPath({}), at('bosun-3000.sock'));
});

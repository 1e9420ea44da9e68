import assert from 'node:assert/strict';
import { fstatSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { BoundSocket, connect, createServer, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { waitingConnections } from '../src/balancing/tcp-table.ts';
import { until } from './until.ts';

const HEADING =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     ';
const line = (state: string, rxQueue: number, inode: number) =>
  `   0: 0100007F:0BB8 00000000:0000 ${state} 00000000:${rxQueue.toString(16).padStart(8, '0')} 00:00000000 00000000  1000        0 ${inode} 1 0000000000000000 100 0 0 10 0`;

function folderWith(files: Record<string, string[]>): string {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-net-'));
  after(() => rmSync(folder, { recursive: true }));
  for (const [name, lines] of Object.entries(files)) writeFileSync(join(folder, name), `${[HEADING, ...lines].join('\n')}\n`);
  return folder;
}

test('waiting connections are those of the named listeners, IPv4 and IPv6 together', () => {
  const others = Array.from({ length: 300 }, (_, index) => line('0A', 9, 1000 + index));
  const folder = folderWith({ tcp: [...others, line('0A', 40, 7), line('01', 3, 7)], tcp6: [line('0A', 2, 8)] });
  assert.equal(waitingConnections(new Set([7, 8]), folder), 42);
  assert.equal(waitingConnections(new Set([6]), folder), 0, 'closed');
  assert.equal(waitingConnections(new Set([7]), folderWith({})), undefined, 'a system that does not tell');
});

test('reading the queues ends before the lines of established connections', () => {
  const folder = folderWith({ tcp: [line('0A', 1, 7), line('01', 5, 7), line('0A', 1, 7)] });
  assert.equal(waitingConnections(new Set([7]), folder), 1);
});

test('the kernel reports how many connections are not accepted yet', {
  skip: process.platform !== 'linux' && 'needs /proc',
}, async () => {
  const bound = new BoundSocket({ host: '127.0.0.1' });
  const inode = fstatSync(bound.fd()).ino;
  const { port } = bound.address() as { port: number };
  // As in intake.ts: libuv stops only what it has started, and starts only a descriptor that it has opened.
  const server = createServer().listen(new Socket({ fd: bound.fd(), readable: false, writable: false }));
  const handle = Reflect.get(server, '_handle') as { readStart(): number; readStop(): number };
  assert.deepEqual([handle.readStart(), handle.readStop()], [0, 0]);
  const clients = Array.from({ length: 3 }, () => connect(port, '127.0.0.1'));
  after(() => {
    for (const client of clients) client.destroy();
    server.close();
  });
  await until(
    () => waitingConnections(new Set([inode])) === 3 || undefined,
    () => `${waitingConnections(new Set([inode]))} wait`,
  );
  await pause(50);
  assert.equal(waitingConnections(new Set([inode])), 3, 'none is accepted');
});

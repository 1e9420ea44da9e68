import assert from 'node:assert/strict';
import { once } from 'node:events';
import { fstatSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { BoundSocket, connect, createServer, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import {
  connectionsHeldBy,
  eachTcpLine,
  type SendQueues,
  sendQueues,
  type TcpLine,
  untilAcknowledged,
  waitingConnections,
} from '../src/balancing/tcp-table.ts';
import { until } from './until.ts';

const SKIP = process.platform !== 'linux' && 'needs /proc';

const HEADING =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     ';

interface Row {
  state: string;
  local?: string;
  remotePort?: string;
  tx?: number;
  rx?: number;
  inode?: number;
}

const hex = (number: number) => number.toString(16).toUpperCase().padStart(8, '0');
const line = ({ state, local = '0100007F:0BB8', remotePort = '0000', tx = 0, rx = 0, inode = 1 }: Row) =>
  `   0: ${local} 0100007F:${remotePort} ${state} ${hex(tx)}:${hex(rx)} 00:00000000 00000000  1000        0 ${inode} 1 0000000000000000 100 0 0 10 0`;

function folderWith(files: Record<string, Row[]>): string {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-net-'));
  after(() => rmSync(folder, { recursive: true }));
  for (const [name, rows] of Object.entries(files))
    writeFileSync(join(folder, name), `${[HEADING, ...rows.map(line)].join('\n')}\n`);
  return folder;
}

test('a line of the TCP table is read as the kernel prints it', () => {
  const folder = folderWith({ tcp: [{ state: '01', remotePort: 'C350', tx: 0x1f, rx: 0x2a, inode: 77 }] });
  const lines: TcpLine[] = [];
  assert.equal(
    eachTcpLine(found => void lines.push(found), folder),
    true,
  );
  const addresses = '0100007F:0BB8 0100007F:C350';
  assert.deepEqual(lines, [{ localPort: 3000, addresses, state: '01', txQueue: 31, rxQueue: 42, inode: 77 }]);
  assert.equal(
    eachTcpLine(() => {}, folderWith({ tcp6: [] })),
    true,
    'an empty table is a report, too',
  );
  assert.equal(
    eachTcpLine(() => {}, folderWith({})),
    false,
  );
});

test('waiting connections are those of the named listeners, IPv4 and IPv6 together', () => {
  const others = Array.from({ length: 300 }, (_, index): Row => ({ state: '0A', rx: 9, inode: 1000 + index }));
  const folder = folderWith({
    tcp: [...others, { state: '0A', rx: 40, inode: 7 }, { state: '01', rx: 3, inode: 7 }],
    tcp6: [{ state: '0A', rx: 2, inode: 8 }],
  });
  assert.equal(waitingConnections(new Set([7, 8]), folder), 42);
  assert.equal(waitingConnections(new Set([6]), folder), 0, 'closed');
  assert.equal(waitingConnections(new Set([7]), folderWith({})), undefined, 'not reported by this system');
});

test('reading the accept queues ends before the lines of established connections', () => {
  const listening: Row = { state: '0A', rx: 1, inode: 7 };
  assert.equal(
    waitingConnections(new Set([7]), folderWith({ tcp: [listening, { state: '01', rx: 5, inode: 7 }, listening] })),
    1,
  );
});

test('reading the TCP tables leaves no descriptor open', { skip: SKIP }, () => {
  const folder = folderWith({ tcp: [{ state: '01' }, { state: '01' }], tcp6: [] });
  const before = readdirSync('/proc/self/fd').length;
  for (let count = 0; count < 10; count++) waitingConnections(new Set(), folder);
  assert.equal(readdirSync('/proc/self/fd').length, before);
});

test('the kernel reports how many connections are not accepted yet', { skip: SKIP }, async () => {
  const bound = new BoundSocket({ host: '127.0.0.1' });
  const inode = fstatSync(bound.fd()).ino;
  const { port } = bound.address() as { port: number };
  // As in listener.ts: libuv stops only what it has started, and starts only a descriptor that it has opened.
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

test('connections that this process holds are counted, and those with data that it has not read', { skip: SKIP }, async () => {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const accepted: Socket[] = [];
  server.on('connection', socket => accepted.push(socket));
  const clients = Array.from({ length: 4 }, () => connect(port, '127.0.0.1'));
  after(() => {
    for (const socket of [...clients, ...accepted]) socket.destroy();
    server.close();
  });
  const heldAre = (connections: number, unread: number) =>
    until(
      () => {
        const held = connectionsHeldBy(process.pid, port);
        return (held.connections === connections && held.unread === unread) || undefined;
      },
      () => JSON.stringify(connectionsHeldBy(process.pid, port)),
    );
  await heldAre(4, 0);
  const [first, second, third] = clients;
  first?.write('unread');
  second?.end('unread'); // half-closed, with data
  third?.end(); // half-closed: its FIN is no data
  await heldAre(2, 2);
  assert.deepEqual(connectionsHeldBy(process.pid, 1), { connections: 0, unread: 0 });
  assert.deepEqual(connectionsHeldBy(2 ** 30, port), { connections: 0, unread: 0 }, 'no such process');
});

/** In virtual time; `left(ms)` are the unacknowledged bytes of each connection. */
async function wait(
  left: (ms: number) => Record<string, number>,
  timeoutMs: number,
  pollMs = 0,
): Promise<{ ms: number; left: SendQueues; polledAt: number[] }> {
  let now = 0;
  const polledAt: number[] = [];
  const system = {
    poll: () => {
      polledAt.push(now);
      now += pollMs;
      return new Map(Object.entries(left(now)));
    },
    now: () => now,
    sleep: async (ms: number) => {
      now += ms;
    },
  };
  const rest = await untilAcknowledged(system, timeoutMs);
  return { ms: now, left: rest, polledAt };
}

test('closed connections of the port with unacknowledged data are found, IPv4 and IPv6', () => {
  const closed = ['04', '09', '0B'].map((state, index): Row => ({ state, tx: 100 + index, remotePort: `000${index}` }));
  const others: Row[] = [
    { state: '0A', tx: 7 },
    { state: '01', tx: 7, remotePort: '0007' },
    { state: '05', remotePort: '0008' },
    { state: '04', local: '0100007F:0BB9', tx: 7, remotePort: '0009' },
  ];
  const local = '00000000000000000000000001000000:0BB8';
  const folder = folderWith({ tcp: [...others, ...closed], tcp6: [{ state: '04', local, tx: 9, remotePort: '0001' }] });
  assert.deepEqual([...sendQueues(3000, folder).values()], [100, 101, 102, 9]);
  assert.equal(sendQueues(3000, join(folder, 'none')).size, 0, 'not reported by this system');
});

test('the wait for acknowledgements ends at once if everything is acknowledged', async () => {
  assert.deepEqual(await wait(() => ({}), 25_000), { ms: 0, left: new Map(), polledAt: [0] });
});

test('the wait polls after 10 ms, then less and less often, every 250 ms in the end', async () => {
  const { polledAt } = await wait(ms => ({ slow: 1_000_000 - ms }), 1000);
  assert.deepEqual(polledAt, [0, 10, 30, 70, 150, 310, 560, 810, 1000]);
});

test('the wait goes on while a slow client acknowledges data', async () => {
  const { ms, left } = await wait(ms => (ms < 12_000 ? { slow: 1_200_000 - Math.floor(ms / 4000) * 400_000 } : {}), 25_000);
  assert.deepEqual([ms >= 12_000 && ms < 12_500, left.size], [true, 0]);
});

test('the wait ends for clients that acknowledge nothing for 5 s, but not for a slow one beside them', async () => {
  const { ms, left } = await wait(ms => ({ dead: 5000, ...(ms < 8000 && { slow: 9000 - ms }) }), 25_000);
  assert.deepEqual([ms >= 8000 && ms < 8500, [...left]], [true, [['dead', 5000]]]);
  const alone = await wait(() => ({ dead: 1, deadToo: 2 }), 25_000);
  assert.ok(alone.ms >= 5000 && alone.ms < 5500, `${alone.ms} ms`);
});

test('the wait for acknowledgements ends at the deadline', async () => {
  const { ms, left } = await wait(ms => ({ slow: 1_000_000 - ms }), 700);
  assert.deepEqual([ms, left], [700, new Map([['slow', 999_300]])]);
  assert.deepEqual(await wait(() => ({ slow: 7 }), 0), { ms: 0, left: new Map([['slow', 7]]), polledAt: [0] });
});

test('a poll that is slow is repeated less often: polling takes a tenth of the time', async () => {
  const { polledAt } = await wait(ms => ({ slow: 1_000_000 - ms }), 3000, 100);
  assert.deepEqual(polledAt, [0, 1100, 2200, 3000]);
});

/**
 * A small server that speaks Redis' protocol and can send malformed data: a test may answer any command with any bytes, and send unrequested bytes.
 * It keeps only strings and hashes, runs no scripts, and passes published messages on.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { after } from 'node:test';

export interface Connection {
  /** What CLIENT SETNAME said: `bosun:<host>:primary`, `:subscriber`, `:reader`, or the number of a worker. */
  name: string;
  socket: Socket;
  channels: Set<string>;
}

/** Bytes for the wire; undefined: the correct answer. An empty string: no answer. */
export type Lie = (command: readonly string[], connection: Connection) => string | Buffer | undefined;

export const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
export const array = (texts: readonly string[], type = '*') => `${type}${texts.length}\r\n${texts.map(bulk).join('')}`;

export class FakeRedis {
  readonly #server: Server;
  readonly connections = new Set<Connection>();
  readonly texts = new Map<string, string>();
  readonly hashes = new Map<string, Map<string, string>>();
  /** Every command that came, in order. */
  readonly commands: { name: string; command: readonly string[] }[] = [];
  /** Connections ever made. */
  made = 0;
  lie: Lie = () => undefined;
  /** Like a Redis before 6: without HELLO, and with messages as replies. */
  isResp2 = false;

  /** On a free port of 127.0.0.1; ends with the test file. */
  static async start(lie?: Lie): Promise<FakeRedis> {
    const fake = new FakeRedis();
    if (lie) fake.lie = lie;
    fake.#server.listen(0, '127.0.0.1');
    await once(fake.#server, 'listening');
    after(() => fake.close());
    return fake;
  }

  private constructor() {
    this.#server = createServer(socket => this.#accept(socket));
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    for (const { socket } of this.connections) socket.destroy();
  }

  /** Raw bytes to every connection whose name ends so. */
  send(nameEnd: string, bytes: string | Buffer): void {
    for (const { name, socket } of this.connections) if (name.endsWith(nameEnd)) socket.write(bytes);
  }

  publish(channel: string, text: string): number {
    const listening = [...this.connections].filter(({ channels }) => channels.has(channel));
    for (const { socket } of listening) socket.write(array(['message', channel, text], this.#push));
    return listening.length;
  }

  #accept(socket: Socket): void {
    const connection: Connection = { name: '', socket, channels: new Set() };
    this.made++;
    this.connections.add(connection);
    socket.on('error', () => undefined);
    socket.on('close', () => this.connections.delete(connection));
    let unread = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      unread = Buffer.concat([unread, chunk]);
      for (;;) {
        const found = commandOf(unread);
        if (found === undefined) return;
        unread = unread.subarray(found.length);
        this.#answer(found.command, connection);
      }
    });
  }

  #answer(command: readonly string[], connection: Connection): void {
    if (command[0]?.toLowerCase() === 'client' && command[1]?.toLowerCase() === 'setname') connection.name = command[2] ?? '';
    this.commands.push({ name: connection.name, command });
    const bytes = this.lie(command, connection) ?? this.#honest(command, connection);
    if (bytes.length > 0 && !connection.socket.destroyed)
      connection.socket.write(typeof bytes === 'string' ? Buffer.from(bytes) : bytes);
  }

  #honest([name = '', ...args]: readonly string[], connection: Connection): string {
    const [key = '', value = ''] = args;
    switch (name.toLowerCase()) {
      case 'hello':
        if (this.isResp2) return "-ERR unknown command 'HELLO'\r\n";
        return `%2\r\n${bulk('server')}${bulk('redis')}${bulk('proto')}:3\r\n`;
      case 'info':
        return bulk('redis_version:8.0.0\r\nloading:0\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n');
      case 'ping':
        return '+PONG\r\n';
      case 'get':
        return this.#text(this.texts.get(key));
      case 'set':
        if (args.includes('NX') && this.texts.has(key)) return this.#nothing;
        this.texts.set(key, value);
        return '+OK\r\n';
      // The scripts of the session store (key, ttl, json), of the retained events (key, name, text; or key, limit, names) and of the stream.
      case 'eval': {
        const [script = '', , name = '', a = '', b = '', ...more] = args;
        if (script.includes("'HSET'")) this.#hash(name).set(a, b);
        else if (script.includes("'HGET'")) return array([b, ...more].map(each => this.#hash(name).get(each) ?? ''));
        else if (script.includes("'SETEX'")) this.texts.set(name, b);
        return script.includes("'SETEX'") ? ':1\r\n' : this.#nothing;
      }
      // Of the services that are named after their package.
      case 'hlen':
        return `:${this.#hash(key).size}\r\n`;
      case 'hgetall':
        return array([...this.#hash(key)].flat());
      case 'hget':
        return this.#text(this.#hash(key).get(value));
      case 'hset':
      case 'hsetnx':
        this.#hash(key).set(value, args[2] ?? '');
        return ':1\r\n';
      case 'pubsub':
        return `*2\r\n${bulk(value)}:${[...this.connections].filter(({ channels }) => channels.has(value)).length}\r\n`;
      case 'scan':
        return `*2\r\n${bulk('0')}${array([])}`;
      case 'subscribe':
        return args.map((channel, index) => this.#subscribe(channel, index, connection)).join('');
      case 'publish':
        return `:${this.publish(key, value)}\r\n`;
      case 'xread':
        setTimeout(() => connection.socket.destroyed || connection.socket.write(this.isResp2 ? '*-1\r\n' : '_\r\n'), 200).unref();
        return '';
      default:
        return '+OK\r\n';
    }
  }

  #subscribe(channel: string, index: number, { channels }: Connection): string {
    channels.add(channel);
    return `${this.#push}3\r\n${bulk('subscribe')}${bulk(channel)}:${index + 1}\r\n`;
  }

  get #push(): string {
    return this.isResp2 ? '*' : '>';
  }

  get #nothing(): string {
    return this.isResp2 ? '$-1\r\n' : '_\r\n';
  }

  #hash(key: string): Map<string, string> {
    const hash = this.hashes.get(key) ?? new Map<string, string>();
    this.hashes.set(key, hash);
    return hash;
  }

  #text(text: string | undefined): string {
    return text === undefined ? this.#nothing : bulk(text);
  }
}

/** The first command that a client has sent, an array of bulk strings, and its bytes; undefined while it is incomplete. */
function commandOf(bytes: Buffer): { command: string[]; length: number } | undefined {
  let at = 0;
  const line = () => {
    const end = bytes.indexOf('\r\n', at);
    if (end === -1) return undefined;
    const text = bytes.toString('latin1', at + 1, end);
    at = end + 2;
    return Number(text);
  };
  const count = line();
  if (count === undefined) return undefined;
  const command: string[] = [];
  for (let index = 0; index < count; index++) {
    const length = line();
    if (length === undefined || bytes.length < at + length + 2) return undefined;
    command.push(bytes.toString('utf8', at, at + length));
    at += length + 2;
  }
  return { command, length: at };
}

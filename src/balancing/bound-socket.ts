/**
 * A socket that is bound and does not listen: `net.BoundSocket`, which newer versions of Node.js 24 and 26 have, or the same on the handle of libuv, for
 * older versions and Node.js 22: they have no public way to bind without listening.
 */
import { chmodSync, lstatSync, readFileSync, statSync, unlinkSync } from 'node:fs';
import * as net from 'node:net';
import { dirname } from 'node:path';
import { socketPathOf } from '../config/parse.ts';

/** Not imported: that loads all of util, which opens stderr and makes the app's own writes to it fail with EAGAIN when the pipe is full. */
const { getSystemErrorName } = process.getBuiltinModule('node:util');

export interface BoundSocket {
  /** @throws the system's error */
  address(): net.AddressInfo;
  fd(): number;
  close(): void;
}

export interface BindOptions {
  /** An address of IPv4 or IPv6, or `unix:` and a path. */
  host: string;
  /** Default 0: the system chooses one. */
  port?: number;
  /** Whether several sockets may share the port (SO_REUSEPORT). */
  reusePort?: boolean;
}

/** @throws the system's error: EADDRINUSE, EACCES, EADDRNOTAVAIL; ENOTSUP where the system has no SO_REUSEPORT */
export function bindSocket({ host, port = 0, reusePort = false }: BindOptions): BoundSocket {
  const path = socketPathOf(host);
  if (path !== undefined) return new UnixSocket(path);
  return 'BoundSocket' in net ? new net.BoundSocket({ host, port, reusePort }) : new HandleSocket(host, port, reusePort);
}

/** The class of handles of net.Server, as far as it is needed here. */
interface TcpHandle {
  readonly fd: number;
  bind(address: string, port: number, flags: number): number;
  bind6(address: string, port: number, flags: number): number;
  getsockname(into: object): number;
  close(): void;
}

interface TcpBinding {
  TCP: new (type: number) => TcpHandle;
  constants: { SERVER: number; UV_TCP_REUSEPORT?: number };
}

/** Exported for its test: it behaves as `net.BoundSocket` does. */
export class HandleSocket implements BoundSocket {
  /** `net.Server.listen` takes an object that has a handle by this name. */
  readonly _handle: TcpHandle;

  constructor(host: string, port: number, reusePort: boolean) {
    const { TCP, constants } = Reflect.get(process, 'binding').call(process, 'tcp_wrap') as TcpBinding;
    const where = `${host}:${port}`;
    this._handle = new TCP(constants.SERVER);
    const flags = reusePort ? (constants.UV_TCP_REUSEPORT ?? 0) : 0;
    const bind = net.isIPv6(host) ? this._handle.bind6 : this._handle.bind;
    // libuv reports EADDRINUSE only when the address is read.
    const error = bind.call(this._handle, host, port, flags) || this._handle.getsockname({});
    if (error === 0) return;
    this._handle.close();
    throw systemError('bind', error, where);
  }

  address(): net.AddressInfo {
    const address = { address: '', family: '', port: 0 };
    const error = this._handle.getsockname(address);
    if (error !== 0) throw systemError('getsockname', error, '');
    return address;
  }

  fd(): number {
    return this._handle.fd;
  }

  close(): void {
    this._handle.close();
  }
}

function systemError(syscall: string, errno: number, where: string): NodeJS.ErrnoException {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${syscall} ${code} ${where}`.trim()), { code, errno, syscall });
}

interface PipeBinding {
  Pipe: new (type: number) => Pick<TcpHandle, 'fd' | 'close'> & { bind(path: string): number };
  constants: { SERVER: number };
}

/** As for a TCP port, anyone on the machine may connect, a proxy of another user too; the folder can restrict that. */
const SOCKET_MODE = 0o666;

/** A Unix socket, for which Node.js has no public way to bind without listening. Its file ends with it. */
class UnixSocket implements BoundSocket {
  readonly #path: string;
  readonly #handle: InstanceType<PipeBinding['Pipe']>;

  constructor(path: string) {
    const { Pipe, constants } = Reflect.get(process, 'binding').call(process, 'pipe_wrap') as PipeBinding;
    this.#path = path;
    this.#handle = new Pipe(constants.SERVER);
    const error = this.#handle.bind(path);
    if (error !== 0) {
      this.#handle.close();
      throw systemError('bind', error, path);
    }
    chmodSync(path, SOCKET_MODE);
  }

  address(): net.AddressInfo {
    return { address: this.#path, family: 'Unix', port: 0 };
  }

  fd(): number {
    return this.#handle.fd;
  }

  /** libuv removes the file. */
  close(): void {
    this.#handle.close();
  }
}

/**
 * Removes the file of a Unix socket on which nobody listens or is about to: a killed primary leaves it behind.
 * @throws the system's error: EADDRINUSE if somebody does, or if it is another file; ENOENT if its folder does not exist
 */
export async function removeStaleSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) {
    statSync(dirname(path)); // libuv would report EACCES where there is none
    return;
  }
  const inUse = (why: string) => Object.assign(new Error(`EADDRINUSE: ${path} ${why}`), { code: 'EADDRINUSE' });
  if (!found.isSocket()) throw inUse('exists, and is no socket');
  const { promise, resolve } = Promise.withResolvers<NodeJS.ErrnoException | undefined>();
  const socket = net.connect(path, () => resolve(undefined)).once('error', resolve);
  const error = await promise;
  socket.destroy();
  if (error === undefined)
    throw inUse('belongs to another process that listens: stop that one (ss -lxp names it), or set another path');
  if (error.code !== 'ECONNREFUSED') throw error;
  if (isBound(path)) throw inUse('belongs to another process that starts');
  unlinkSync(path);
}

/** Whether a process has a socket at `path`, also one that does not listen yet; false on systems that do not report it. */
function isBound(path: string): boolean {
  try {
    return readFileSync('/proc/net/unix', 'utf8')
      .split('\n')
      .some(line => line.endsWith(` ${path}`));
  } catch {
    return false;
  }
}

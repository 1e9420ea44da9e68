/**
 * Ports for what a test starts.
 */
import { createServer, type ListenOptions } from 'node:net';

/**
 * Below the range that the kernel gives to clients, so that nobody takes it between the look and the use. No test gets it again, in this process or in
 * another one that runs at the same time: a server of one would answer the other.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if ((await isReserved(port)) && (await isFree(port))) return port;
  }
}

/** Whether this call has reserved it, until this process ends: by a name, which is in no folder and goes with the process, that only one can have. */
async function isReserved(port: number): Promise<boolean> {
  if (process.platform !== 'linux') return true;
  const server = await listening({ path: `\0koa-bosun-test-port-${port}` });
  server?.unref();
  return server !== undefined;
}

async function isFree(port: number): Promise<boolean> {
  const server = await listening({ port, host: '127.0.0.1' });
  if (server === undefined) return false;
  await new Promise(resolve => server.close(resolve));
  return true;
}

/** Undefined where the address is taken. */
function listening(address: ListenOptions) {
  const server = createServer();
  return new Promise<typeof server | undefined>(resolve =>
    server.once('error', () => resolve(undefined)).listen(address, () => resolve(server)),
  );
}

/**
 * Ports for what a test starts.
 */
import { createServer } from 'node:net';

/** Below the range that the kernel gives to clients, so that nobody takes it between the look and the use. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer();
    const taken = await new Promise(resolve =>
      server.once('error', () => resolve(true)).listen(port, '127.0.0.1', () => resolve(false)),
    );
    if (taken) continue;
    await new Promise(resolve => server.close(resolve));
    return port;
  }
}

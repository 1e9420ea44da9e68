// Runs while the image is built, and after an installation in a clone (Makefile): starts the kit, requests its pages, runs bosun, stops the kit.
// Fails if any of that fails. What was compiled stays in NODE_COMPILE_CACHE, so no later start has to strip types.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

// An app in place of the demo may need variables and services that a build has not: then a listener of its own serves.
const folder = mkdtempSync(join(tmpdir(), 'warm-up-'));
const listener = join(folder, 'app.mjs');
writeFileSync(listener, 'export default (request, response) => response.end();');
process.on('exit', () => rmSync(folder, { recursive: true }));
const app = existsSync('src/demo/app.ts') ? {} : { APP_MODULE: listener };

// In a clone, the usual ports may be in use.
const [port, adminPort] = [await freePort(), await freePort()];
const env = {
  ...process.env,
  ...app,
  HOST: '127.0.0.1',
  PORT: port,
  ADMIN_HOST: '127.0.0.1',
  ADMIN_PORT: adminPort,
  CONTROL_SOCKET: join(folder, 'control.sock'),
  NODE_CLUSTER_WORKERS: '1',
  SHUTDOWN_DELAY_MS: '0',
  LOG_LEVEL: 'info',
};
const kit = spawn(process.execPath, ['src/main.ts'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
for await (const line of createInterface({ input: kit.stdout })) {
  process.stdout.write(`${line}\n`);
  const { event, code } = JSON.parse(line);
  if (event === 'pool.ready') {
    for (const url of [
      `http://127.0.0.1:${port}/`,
      `http://127.0.0.1:${adminPort}/status`,
      `http://127.0.0.1:${adminPort}/metrics`,
    ]) {
      const response = await fetch(url);
      // An app in place of the demo need not have a page there.
      if (response.status >= 500) throw new Error(`${url} answered ${response.status}`);
      await response.text();
    }
    execFileSync(process.execPath, ['src/cli/bosun.ts', 'status'], { env, stdio: 'inherit' });
    kit.kill('SIGTERM');
  }
  if (event === 'primary.exit') process.exitCode = code;
}

async function freePort() {
  const server = createServer();
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise(resolve => server.close(resolve));
  return String(port);
}

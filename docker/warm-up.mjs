// Runs while the image is built: starts the kit, asks it for its page, ends it. Fails where any of that fails.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const kit = spawn(process.execPath, ['src/main.ts'], {
  env: { ...process.env, HOST: '127.0.0.1', NODE_CLUSTER_WORKERS: '1', SHUTDOWN_DELAY_MS: '0', LOG_LEVEL: 'info' },
  stdio: ['ignore', 'pipe', 'inherit'],
});
for await (const line of createInterface({ input: kit.stdout })) {
  process.stdout.write(`${line}\n`);
  const { event, code } = JSON.parse(line);
  if (event === 'pool.ready') {
    for (const url of ['http://127.0.0.1:3000/', 'http://127.0.0.1:9090/status', 'http://127.0.0.1:9090/metrics']) {
      const response = await fetch(url);
      // An app in the demo's place need not have a page there.
      if (response.status >= 500) throw new Error(`${url} answered ${response.status}`);
      await response.text();
    }
    kit.kill('SIGTERM');
  }
  if (event === 'primary.exit') process.exitCode = code;
}

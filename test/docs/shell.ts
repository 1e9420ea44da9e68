/**
 * Commands as a reader types them.
 */
import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';

const TIMEOUT_MS = 480_000;
const LOOK_TIMEOUT_MS = 10_000;

/** The reader's environment: nothing that make or npm have set for these tests. */
export function environment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(?:npm_|NODE_|MAKE|MFLAGS)/.test(name));
  return { ...Object.fromEntries(kept), ...extra };
}

/** What it prints on standard output; it must succeed. */
export async function shell(command: string, cwd: string, env: Record<string, string> = {}): Promise<string> {
  const options = { cwd, env: environment(env), timeout: TIMEOUT_MS, maxBuffer: 64 << 20 };
  const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', command], options);
  return stdout;
}

/** Why no Kubernetes cluster can be used here; undefined if one answers. */
export function clusterAbsent(): string | undefined {
  try {
    execFileSync('kubectl', ['version', '--request-timeout=5s'], { timeout: LOOK_TIMEOUT_MS, stdio: 'pipe' });
    return undefined;
  } catch {
    return 'no Kubernetes cluster answers kubectl; test/docs-blocks.test.ts has checked it against the manifests and their schema';
  }
}

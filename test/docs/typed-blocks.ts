/**
 * The `js` and `ts` blocks of the documentation through TypeScript, all in one run: names, members and arguments of the kit exist. What a page
 * leaves out, `kit` and `app`, is declared.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { PageBlock } from './block-rules.ts';
import { ROOT } from './blocks.ts';

const TSC = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
/** Below the root, so that the blocks find its packages. */
const FOLDER = join(ROOT, 'test', 'output', `blocks-${process.pid}`);

const GLOBALS = `import type { Kit } from 'koa-bosun';
declare global { const kit: Kit; const app: any; }
`;

/** Of packages that only `make test-apps` installs. */
const PACKAGES = `declare module 'import-in-the-middle/register-hooks.mjs' { export function register(): void; }
declare module '@opentelemetry/auto-instrumentations-node/register';
`;

const CONFIG = {
  extends: '../../../tsconfig.json',
  compilerOptions: {
    allowJs: true,
    checkJs: true,
    moduleDetection: 'force',
    noImplicitAny: false,
    noUnusedLocals: false,
    verbatimModuleSyntax: false,
    paths: { 'koa-bosun': ['../../../src/index.ts'] },
  },
  include: ['.'],
  exclude: [],
};

/** What TypeScript says of these blocks, a line each, with page and line instead of the file. */
export async function typeErrors(blocks: readonly PageBlock[]): Promise<string[]> {
  mkdirSync(FOLDER, { recursive: true });
  try {
    writeFileSync(join(FOLDER, 'tsconfig.json'), JSON.stringify(CONFIG));
    writeFileSync(join(FOLDER, 'globals.d.ts'), GLOBALS);
    writeFileSync(join(FOLDER, 'packages.d.ts'), PACKAGES);
    for (const [index, block] of blocks.entries()) writeFileSync(join(FOLDER, `${index}.${extensionOf(block)}`), block.text);
    const { stdout } = await promisify(execFile)(process.execPath, [TSC, '-p', FOLDER, '--pretty', 'false'], {
      cwd: FOLDER,
    }).catch((error: { stdout: string }) => error);
    return stdout
      .trim()
      .split('\n')
      .filter(line => line !== '')
      .map(line =>
        line.replace(
          /^(\d+)\.\w+\((\d+)/,
          (_, index, at) => `${blocks[Number(index)]?.page}:${Number(blocks[Number(index)]?.line) + Number(at)} (`,
        ),
      );
  } finally {
    rmSync(FOLDER, { recursive: true });
  }
}

function extensionOf({ language, text }: PageBlock): string {
  if (language === 'ts') return 'ts';
  return /\brequire\b|\bmodule\.exports\b/.test(text) ? 'cjs' : 'mjs';
}

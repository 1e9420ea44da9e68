/**
 * Puts what a primary loads at its start into one file of dist, and what a worker loads into another: a file costs 0.3 to 0.5 ms, and they load
 * 125 and 81. What is loaded later, or in some settings only, is in the file too and runs when it is imported. Nothing is minified: stack
 * traces name the functions of the sources. `dist/primary/start.js` and `dist/worker/worker.js` load these files.
 */
import { cpSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';

/** tsx brings it. */
const { build } = createRequire(createRequire(import.meta.url).resolve('tsx/package.json'))('esbuild');

/** By the module whose place the file takes: what that exports. */
const ENTRIES = { 'primary/start.js': 'startPrimary', 'worker/worker.js': 'runWorker' };
/** As deep as the folders of the modules: these find the package's other files from where they are. */
const FOLDER = 'start';

/** @param {string} dist the folder with the compiled modules */
export async function bundle(dist) {
  for (const [module, name] of Object.entries(ENTRIES)) {
    const outfile = join(dist, FOLDER, `${dirname(module)}.cjs`);
    // As CommonJS, a package that is imported by a module that loads later is loaded later too.
    await build({
      entryPoints: [join(dist, module)],
      outfile,
      bundle: true,
      packages: 'external',
      platform: 'node',
      format: 'cjs',
      target: 'node22.18',
      define: { 'import.meta.dirname': '__dirname', 'import.meta.filename': '__filename', 'import.meta.url': '__url' },
      banner: { js: "const __url = require('node:url').pathToFileURL(__filename).href;" },
      // package.json says that the modules have no side effects, which is for the bundlers of apps; some of ours have.
      ignoreAnnotations: true,
      legalComments: 'none',
      logLevel: 'warning',
    });
    const file = relative(dirname(join(dist, module)), outfile);
    writeFileSync(
      join(dist, module),
      `import { createRequire } from 'node:module';\nexport const { ${name} } = createRequire(import.meta.url)('${file}');\n`,
    );
  }
  // The admin server reads them from beside its code.
  cpSync(join(dist, 'admin', 'dashboard'), join(dist, FOLDER, 'dashboard'), { recursive: true });
}

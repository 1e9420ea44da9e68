/**
 * The folders of test/apps, with what each takes from its framework's own packages, and how it is built.
 */

/** What a folder of test/apps needs besides its files before its apps can start. */
export interface Project {
  /** Written from the framework's own documentation or template, as it is in the installed package. */
  quickStarts?: QuickStart[];
  /** The framework's build, run with the packages' commands in the PATH. */
  build?: string;
}

/** One file of an app, or a folder of it. */
export interface QuickStart {
  to: string;
  /** Below node_modules. A folder is copied; of a Markdown file one code block is taken. */
  from: string;
  /** What the code block contains, where the page has several. */
  block?: string;
  /** Left out of the block: the second of two ways to write the same thing. */
  leaveOut?: string;
}

export const PROJECTS: Record<string, Project> = {
  'apollo-koa': { quickStarts: [{ to: 'server.mjs', from: '@as-integrations/koa/README.md', block: 'httpServer.listen' }] },
  express: { quickStarts: [{ to: 'server.js', from: 'express/Readme.md', block: 'app.listen' }] },
  fastify: {
    quickStarts: [
      {
        to: 'server.js',
        from: 'fastify/docs/Guides/Getting-Started.md',
        block: 'fastify.listen({ port: 3000 }, function',
        leaveOut: "// CommonJs\nconst fastify = require('fastify')({\n  logger: true\n})\n",
      },
    ],
  },
  'graphql-yoga': { quickStarts: [{ to: 'server.ts', from: 'graphql-yoga/README.md', block: 'server.listen' }] },
  'h3-1': {},
  'h3-2': {},
  hono: { quickStarts: [{ to: 'server.ts', from: '@hono/node-server/README.md', block: 'serve(app' }] },
  'itty-router': { quickStarts: [{ to: 'server.js', from: 'itty-router/README.md', block: 'AutoRouter' }] },
  'json-server': { quickStarts: [{ to: 'server.js', from: 'json-server/README.md', block: '// server.js' }] },
  'koa-2': { quickStarts: [{ to: 'server.js', from: 'koa/Readme.md', block: 'app.listen' }] },
  'koa-3': { quickStarts: [{ to: 'server.js', from: 'koa/Readme.md', block: 'app.listen' }] },
  nestjs: {
    quickStarts: [{ to: 'src', from: '@nestjs/schematics/dist/lib/application/files/ts/src' }],
    build: 'nest build',
  },
  next: {
    quickStarts: [{ to: 'app', from: 'create-next-app/dist/templates/app-empty/js/app' }],
    build: 'next build',
  },
  nitro: { build: 'nitro build' },
  nitropack: { build: 'nitropack build' },
  node: {},
  polka: { quickStarts: [{ to: 'server.js', from: 'polka/readme.md', block: '.listen(3000' }] },
  'typescript-swc': {},
  'typescript-ts-node': {},
  'typescript-tsx': {},
  websockets: {},
};

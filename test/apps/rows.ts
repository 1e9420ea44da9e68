/**
 * The apps of `make test-apps`, one row each, and the folders that they are in. The table of docs/guide/adopt.md is made of the rows with a
 * `framework`. To add an app: a folder with package.json and lock file (CONTRIBUTING.md), and a row.
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

export interface App {
  /** Unique. */
  name: string;
  folder: string;
  /** What follows `bosun start`: what one runs with `node`. */
  start: string;
  /** What is requested; default `/`. */
  path?: string;
  /** Default 200. */
  status?: number;
  /** What the body must match. */
  body: RegExp;
  env?: Record<string, string>;
  /** The port that the app listens on without PORT, which is then unset. */
  ownPort?: number;
  /** Its row in the table of docs/guide/adopt.md. */
  guide?: { kit: string; know?: string };
}

const QUICK_START = 'listens: its server gets the connections';
const HARD_CODED = 'ignores `PORT`; the kit serves it there all the same';

const FRAMEWORKS: App[] = [
  { name: 'Koa 3', folder: 'koa-3', start: 'server.js', body: /^Hello Koa$/, guide: { kit: QUICK_START, know: HARD_CODED } },
  { name: 'Koa 2', folder: 'koa-2', start: 'server.js', body: /^Hello Koa$/, guide: { kit: QUICK_START, know: HARD_CODED } },
  {
    name: 'Express',
    folder: 'express',
    start: 'server.js',
    body: /^Hello World$/,
    guide: { kit: QUICK_START, know: HARD_CODED },
  },
  {
    name: 'Fastify',
    folder: 'fastify',
    start: 'server.js',
    body: /^\{"hello":"world"\}$/,
    guide: { kit: QUICK_START, know: HARD_CODED },
  },
  {
    name: 'Hono with @hono/node-server',
    folder: 'hono',
    start: 'server.ts',
    body: /^Hono meets Node.js$/,
    guide: { kit: QUICK_START },
  },
  { name: 'h3 v1', folder: 'h3-1', start: 'server.js', body: /^h3 version 1$/, guide: { kit: QUICK_START } },
  { name: 'h3 v2, `serve`', folder: 'h3-2', start: 'server.mjs', body: /^h3 version 2$/, guide: { kit: QUICK_START } },
  {
    name: 'h3 v2, exported',
    folder: 'h3-2',
    start: 'exported.mjs',
    body: /^h3 version 2$/,
    guide: { kit: 'serves `fetch(request)`' },
  },
  {
    name: 'Polka',
    folder: 'polka',
    start: 'server.js',
    path: '/users/7',
    body: /^User: 7$/,
    guide: { kit: QUICK_START, know: HARD_CODED },
  },
  { name: 'NestJS, built', folder: 'nestjs', start: 'dist/main.js', body: /^Hello World!$/, guide: { kit: QUICK_START } },
  {
    name: 'NestJS, TypeScript',
    folder: 'nestjs',
    start: 'src/main.ts',
    body: /^Hello World!$/,
    guide: { kit: QUICK_START, know: 'decorators need @swc-node/register or ts-node in the project' },
  },
  { name: 'Next.js standalone', folder: 'next', start: '.next/standalone/server.js', body: /<html/, guide: { kit: QUICK_START } },
  {
    name: 'Nitro 3',
    folder: 'nitro',
    start: '.output/server/index.mjs',
    path: '/hello',
    body: /^Hello from Nitro$/,
    guide: { kit: QUICK_START },
  },
  {
    name: 'Nitro 2 (Nuxt)',
    folder: 'nitropack',
    start: '.output/server/index.mjs',
    path: '/hello',
    body: /^Hello from Nitro$/,
    guide: { kit: QUICK_START },
  },
  {
    name: 'Apollo Server on Koa',
    folder: 'apollo-koa',
    start: 'server.mjs',
    path: '/?query=%7Bhello%7D',
    env: {},
    body: /^\{"data":\{"hello":"world"\}\}/,
    guide: { kit: QUICK_START, know: HARD_CODED },
  },
  {
    name: 'GraphQL Yoga',
    folder: 'graphql-yoga',
    start: 'server.ts',
    path: '/graphql?query=%7Bhello%7D',
    body: /^\{"data":\{"hello":"Hello from Yoga!"\}\}/,
    guide: { kit: QUICK_START, know: HARD_CODED },
  },
  {
    name: 'json-server as a module',
    folder: 'json-server',
    start: 'server.js',
    path: '/posts',
    body: /"title": "json-server"/,
    guide: { kit: QUICK_START, know: HARD_CODED },
  },
  {
    name: 'json-server, its command',
    folder: 'json-server',
    start: 'node_modules/json-server/lib/cli/bin.js -- db.json',
    path: '/posts',
    body: /"title": "json-server"/,
    guide: { kit: QUICK_START, know: 'arguments of the app follow `--`; each worker has its own copy of db.json' },
  },
  {
    name: 'itty-router',
    folder: 'itty-router',
    start: 'server.js',
    path: '/hello/you',
    body: /^"Hello, you!"$/,
    guide: { kit: 'serves `fetch(request)`' },
  },
  {
    name: 'socket.io on Express',
    folder: 'websockets',
    start: 'socket-io.js',
    body: /^sockets of socket.io$/,
    guide: { kit: QUICK_START, know: 'several workers need the WebSocket transport alone, or sticky sessions' },
  },
  { name: 'ws on Express', folder: 'websockets', start: 'ws.js', body: /^sockets of ws$/, guide: { kit: QUICK_START } },
  {
    name: 'TypeScript with tsx',
    folder: 'typescript-tsx',
    start: 'src/server.ts',
    path: '/parcels/7',
    body: /^\{"id":"7","state":"sent"\}$/,
    guide: { kit: 'uses the project’s tsx', know: 'enums, parameter properties, `paths`, imports without extension' },
  },
  {
    name: 'TypeScript with @swc-node/register',
    folder: 'typescript-swc',
    start: 'src/server.ts',
    path: '/parcels/7',
    body: /^\{"id":"7","state":"sent","at":"String"\}$/,
    guide: { kit: 'uses the project’s @swc-node/register', know: 'also decorators with metadata' },
  },
  {
    name: 'TypeScript with ts-node',
    folder: 'typescript-ts-node',
    start: 'src/server.ts',
    path: '/parcels/7',
    body: /^\{"id":"7","state":"sent","at":"String"\}$/,
    guide: { kit: 'uses the project’s ts-node', know: 'type errors end the start' },
  },
];

/** Apps without packages: how Node.js servers are written. */
const NODE: App[] = [
  { name: 'a port that is hard-coded', folder: 'node', start: 'hard-coded.mjs', body: /^hard-coded$/ },
  {
    name: 'a port that is hard-coded, without PORT',
    folder: 'node',
    start: 'hard-coded.mjs',
    ownPort: 38471,
    body: /^hard-coded$/,
  },
  { name: 'two ports', folder: 'node', start: 'two-ports.cjs', body: /^the app$/ },
  { name: 'workers of its own', folder: 'node', start: 'own-workers.mjs', body: /^one of its workers$/ },
  { name: 'a server after an asynchronous connect', folder: 'node', start: 'connects-first.mjs', body: /^connected$/ },
  { name: 'a class that starts itself', folder: 'node', start: 'class.mjs', body: /^a class$/ },
  { name: 'an exported class with callback()', folder: 'node', start: 'class-callback.mjs', body: /^callback of a class$/ },
  { name: 'an exported http.Server', folder: 'node', start: 'exported-server.mjs', body: /^exported$/ },
  { name: '{ app } that listens if it is main', folder: 'node', start: 'app-property.cjs', body: /^a property$/ },
  { name: 'require.main === module', folder: 'node', start: 'require-main.cjs', body: /^main$/ },
  { name: 'import.meta.main', folder: 'node', start: 'import-meta-main.mjs', body: /^main$/ },
  { name: 'process.argv[1] is the module', folder: 'node', start: 'argv-main.mjs', body: /^main$/ },
  { name: 'signal handlers that exit', folder: 'node', start: 'exits-on-sigterm.mjs', body: /^handles signals$/ },
  { name: 'the main of a package.json', folder: 'node', start: '', body: /^the main$/ },
  { name: 'a folder', folder: 'node', start: 'folder', body: /^a folder$/ },
];

/** The forms of `server.listen`, by their names in node/listen.mjs. */
const LISTENS = [
  'port',
  'text',
  'port-callback',
  'port-host',
  'port-host-backlog',
  'options',
  'options-host',
  'options-exclusive',
  'options-signal',
  'options-ipv6',
  'path',
  'nothing',
];

/** How Koa apps of the years of Koa 2 are written (test/apps/koa-2). */
const KOA_2: App[] = [
  { name: 'Koa 2: !module.parent', folder: 'koa-2', start: 'module-parent.js', body: /^module.parent$/ },
  { name: 'Koa 2: listens unconditionally', folder: 'koa-2', start: 'listens.js', body: /^listens$/ },
  { name: 'Koa 2: forms, router and templates', folder: 'koa-2', start: 'forms.js', body: /<h1>Notes: 0<\/h1>/ },
  { name: 'Koa 2: session and CSRF token', folder: 'koa-2', start: 'csrf.js', path: '/token', body: /^\S{20,}$/ },
  { name: 'Koa 2: basic authentication', folder: 'koa-2', start: 'basic-auth.js', status: 401, body: /^who are you\?$/ },
  { name: 'Koa 2: errors of its own', folder: 'koa-2', start: 'errors.js', status: 500, body: /^it broke$/ },
  { name: 'Koa 2: streams', folder: 'koa-2', start: 'streams.js', body: /"id":1[\s\S]*"id":2/ },
  { name: 'Koa 2: virtual hosts', folder: 'koa-2', start: 'vhosts.js', body: /^the host 127.0.0.1$/ },
  {
    name: 'Koa 2: static files and uploads',
    folder: 'koa-2',
    start: 'static.js',
    path: '/index.html',
    body: /<p>a static page<\/p>/,
  },
];

export const APPS: App[] = [
  ...FRAMEWORKS,
  ...NODE,
  ...LISTENS.map(form => ({
    name: `server.listen: ${form}`,
    folder: 'node',
    start: `listen.mjs -- ${form}`,
    body: new RegExp(`^${form}$`),
  })),
  ...KOA_2,
];

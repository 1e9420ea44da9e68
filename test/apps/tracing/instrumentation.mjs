import { register } from 'import-in-the-middle/register-hooks.mjs';

register(); // for ES modules
await import('@opentelemetry/auto-instrumentations-node/register');

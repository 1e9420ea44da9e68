/**
 * docs/guide/migrating.md names every key of the configurations that people come with.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from './docs/blocks.ts';

const PAGE = readFileSync(join(ROOT, 'docs', 'guide', 'migrating.md'), 'utf8');

/** What `ecosystem.config.js` may contain: names and aliases of PM2 7.0.4's lib/API/schema.json. */
const PM2 = `script exec name name_prefix filter_env namespace install_url cwd args exec_interpreter interpreter node_args interpreterArgs
  interpreter_args out_file out output out_log error_file error err err_file err_log log_file log disable_logs log_type log_date_format time env
  max_memory_restart pid_file pid restart_delay exp_backoff_restart_delay source_map_support disable_source_map_support wait_ready instances
  kill_timeout shutdown_with_message listen_timeout cron_restart cron merge_logs combine_logs vizion autostart autorestart stop_exit_codes watch_delay
  watch ignore_watch watch_options min_uptime max_restarts execute_command exec_mode force append_env_to_name post_update trace disable_trace v8
  event_loop_inspector deep_monitoring increment_var instance_var pmx automation treekill port username uid user gid windowsHide kill_retry_time
  write io`;
/** The options of throng 5.0.0. */
const THRONG = 'worker count grace master lifetime signals';
/** Those of egg-cluster 2.5.0, lib/utils/options.js, but for what its tests and its debugger use. */
const EGG_CLUSTER = 'framework baseDir port ports reusePort workers plugins https startMode env require pidFile sticky';

const namesOf = (text: string) => text.trim().split(/\s+/);

for (const [from, keys] of [
  ['PM2', PM2],
  ['throng', THRONG],
  ['egg-cluster', EGG_CLUSTER],
] as const)
  test(`migrating.md names every key of ${from}`, () => {
    const [, section = ''] = new RegExp(`^## From ${from}\n([\\s\\S]*?)(?=^## |$(?![\\s\\S]))`, 'm').exec(PAGE) ?? [];
    const cells = [...section.matchAll(/^\| ([^|]*) \|/gm)].map(([, cell = '']) => cell).join(' ');
    const named = [...cells.matchAll(/`([^`]+)`/g)].map(([, name]) => name);
    assert.deepEqual(
      namesOf(keys).filter(key => !named.includes(key)),
      [],
    );
  });

test('the keys of PM2 are those of its own schema, where it is installed', () => {
  const file = join(ROOT, 'test', 'bench', 'peers', 'node_modules', 'pm2', 'lib', 'API', 'schema.json');
  if (!existsSync(file)) return; // make bench installs it
  const schema = JSON.parse(readFileSync(file, 'utf8')) as Record<string, { alias?: string | string[] }>;
  const names = Object.entries(schema).flatMap(([name, { alias = [] }]) => [name, ...[alias].flat()]);
  assert.deepEqual(names.filter(name => !name.startsWith('^')).sort(), namesOf(PM2).sort());
});

/**
 * An app with a PostgreSQL of its own (DATABASE_URL): `/rows` needs it, no other route does. READINESS=true lets its check decide on readiness.
 */
import pg from 'pg';

export default kit => {
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4, connectionTimeoutMillis: 2000 });
  pool.on('error', () => undefined);
  kit.onClose(() => pool.end());
  kit.health('database', () => pool.query('SELECT 1'), { readiness: process.env.READINESS === 'true' });

  const json = (response, status, body) => {
    response.writeHead(status, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  return async (request, response) => {
    if (request.url !== '/rows') return json(response, 200, { pid: process.pid });
    try {
      const { rows } = await pool.query('SELECT 1 AS one');
      json(response, 200, { pid: process.pid, rows });
    } catch (error) {
      json(response, 503, { error: error.message });
    }
  };
};

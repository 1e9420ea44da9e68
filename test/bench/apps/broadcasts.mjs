// Sends events at a given pace, and notes how long those of others took to come: all processes are on one machine, with one clock.
const LIMIT = 100_000;
const now = () => performance.timeOrigin + performance.now();

export default kit => {
  const pod = process.ppid;
  const self = `${pod}/${kit.workerId}`;
  const received = { within: [], across: [] };
  const last = new Map();
  let faults = 0;
  kit.on('tick', ({ from, n, at }) => {
    if (n !== (last.get(from) ?? 0) + 1) faults++;
    last.set(from, n);
    if (from === self) return;
    const list = from.startsWith(`${pod}/`) ? received.within : received.across;
    if (list.length < LIMIT) list.push(now() - at);
  });
  let n = 0;
  const filler = 'x'.repeat(1000);
  return (request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://bench');
    if (pathname === '/send') {
      const count = Number(searchParams.get('count'));
      const perTurn = Number(searchParams.get('perTurn'));
      const everyMs = Number(searchParams.get('everyMs'));
      let left = count;
      const turn = () => {
        for (let i = 0; i < perTurn && left > 0; i++, left--) kit.broadcast('tick', { from: self, n: ++n, at: now(), filler });
        if (left > 0) setTimeout(turn, everyMs);
      };
      turn();
    }
    const total = last.values().reduce((sum, count) => sum + count, 0);
    const answer = { self, total, faults };
    if (pathname === '/take') {
      Object.assign(answer, received);
      received.within = [];
      received.across = [];
    }
    response.end(JSON.stringify(answer));
  };
};

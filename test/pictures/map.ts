/** The processes of a pod and what is around it: who talks to whom, and over which port or socket. */
import { area, type Box, COLORS, type Colors, type Look, labelled, line, MARGIN, paragraph, svg, text, widthOf } from './svg.ts';

export interface Ports {
  app: number;
  admin: number;
  controlSocket: string;
}

export function mapPicture(look: Look, ports: Ports): string {
  return look.isNarrow ? narrow(look, ports) : wide(look, ports);
}

const TITLE = 'The processes of a pod, and what they talk to';
const NOTE = 'Solid: requests and data. Dashed: supervision, probes, metrics and commands. The primary runs no code of the app.';

function wide(look: Look, ports: Ports): string {
  const colors = COLORS[look.scheme];
  const draw = drawerOf(colors);
  const pod: Box = { x: 200, y: 20, width: 506, height: 268 };
  const primary: Box = { x: 460, y: 40, width: 220, height: 104 };
  const listener: Box = { x: 216, y: 176, width: 132, height: 48 };
  const workers: Box[] = [0, 1].map(index => ({ x: 460, y: 166 + index * 58, width: 220, height: 48 }));
  const other: Box = { x: 200, y: 304, width: 480, height: 34 };
  const redis: Box = { x: 460, y: 368, width: 220, height: 66 };
  const left = (y: number, height = 48): Box => ({ x: MARGIN, y, width: 140, height });
  const [prometheus, platform, cli, balancer, clients] = [left(20), left(76), left(132), left(188), left(304, 34)];
  const height = 448;
  const note = paragraph(MARGIN, height + 12, widthOf(look) - 2 * MARGIN, colors.quiet, NOTE);
  return svg(look, height + note.height + 8, TITLE, [
    area(pod, colors.rule, 0.12),
    text(pod.x + 14, pod.y + pod.height - 14, colors.ink, 'a pod, or a container', { weight: 600 }),
    ...labelled(primary, colors.warn, colors.ink, [
      'primary',
      `admin port ${ports.admin}`,
      ports.controlSocket,
      'starts, watches, drains',
    ]),
    ...labelled(listener, colors.series[1] ?? colors.ink, colors.ink, [`port ${ports.app}`, 'kernel queue']),
    ...workers.flatMap((box, index) =>
      labelled(box, colors.good, colors.ink, [`worker ${index + 1}`, 'your app and its requests']),
    ),
    ...labelled(other, colors.rule, colors.ink, ['other pods, built alike']),
    ...labelled(redis, colors.series[2] ?? colors.ink, colors.ink, [
      'Redis',
      'sessions of the workers,',
      'events of the primaries',
    ]),
    ...labelled(prometheus, colors.rule, colors.ink, ['Prometheus', '/metrics']),
    ...labelled(platform, colors.rule, colors.ink, ['the platform', '/livez, /readyz']),
    ...labelled(cli, colors.rule, colors.ink, ['bosun', 'in the container']),
    ...labelled(balancer, colors.series[1] ?? colors.ink, colors.ink, ['load balancer', 'ready pods only']),
    ...labelled(clients, colors.series[1] ?? colors.ink, colors.ink, ['clients']),
    draw.control('M154 44L330 44L330 76L454 76'),
    draw.control('M154 100L454 100'),
    draw.control('M154 152L330 152L330 126L454 126'),
    draw.data(`M${MARGIN + 70} 300L${MARGIN + 70} 240`),
    draw.data('M154 206L212 206'),
    draw.data('M154 222L178 222L178 321L196 321'),
    draw.data('M348 190L454 190'),
    draw.data('M348 210L410 210L410 248L454 248'),
    draw.control('M570 144L570 162'),
    draw.data('M570 340L570 364'),
    line('M680 100H699V190M680 248H699', colors.ink, { hasHead: false }),
    draw.data('M680 190L699 190L699 401L685 401'),
    ...note.parts,
  ]);
}

function narrow(look: Look, ports: Ports): string {
  const colors = COLORS[look.scheme];
  const draw = drawerOf(colors);
  const full = widthOf(look) - 2 * MARGIN;
  const third = (full - 2 * 8) / 3;
  const pod: Box = { x: MARGIN, y: 96, width: full, height: 324 };
  const inner = (y: number, height: number): Box => ({ x: MARGIN + 16, y, width: full - 32, height });
  const top = (column: number): Box => ({ x: MARGIN + column * (third + 8), y: MARGIN, width: third, height: 48 });
  const [primary, listener] = [inner(112, 104), { ...inner(340, 48), width: full - 46 }];
  const half = (full - 32 - 12) / 2;
  const workers: Box[] = [0, 1].map(index => ({ x: MARGIN + 16 + index * (half + 12), y: 246, width: half, height: 66 }));
  const below = (column: number, y: number, height = 48): Box => ({
    x: MARGIN + column * (full / 2 + 6),
    y,
    width: full / 2 - 6,
    height,
  });
  const [balancer, redis, clients, other] = [below(0, 446), below(1, 446, 66), below(0, 548), below(1, 548)];
  const height = 610;
  const note = paragraph(MARGIN, height + 8, full, colors.quiet, NOTE);
  const podX = (box: Box) => box.x + box.width / 2;
  return svg(look, height + note.height + 4, TITLE, [
    area(pod, colors.rule, 0.12),
    text(pod.x + 316, pod.y + pod.height - 10, colors.ink, 'a pod, or a container', { weight: 600, anchor: 'end' }),
    ...labelled(top(0), colors.rule, colors.ink, ['Prometheus', '/metrics']),
    ...labelled(top(1), colors.rule, colors.ink, ['the platform', '/readyz']),
    ...labelled(top(2), colors.rule, colors.ink, ['bosun', 'inside']),
    ...labelled(primary, colors.warn, colors.ink, [
      'primary',
      `admin port ${ports.admin}`,
      ports.controlSocket,
      'starts, watches, drains',
    ]),
    ...workers.flatMap((box, index) =>
      labelled(box, colors.good, colors.ink, [`worker ${index + 1}`, 'your app and', 'its requests']),
    ),
    ...labelled(listener, colors.series[1] ?? colors.ink, colors.ink, [`port ${ports.app}`, 'kernel queue']),
    ...labelled(balancer, colors.series[1] ?? colors.ink, colors.ink, ['load balancer', 'ready pods only']),
    ...labelled(clients, colors.series[1] ?? colors.ink, colors.ink, ['clients']),
    ...labelled(redis, colors.series[2] ?? colors.ink, colors.ink, ['Redis', 'sessions (workers),', 'events (primaries)']),
    ...labelled(other, colors.rule, colors.ink, ['other pods']),
    ...[0, 1, 2].map(column => draw.control(`M${podX(top(column))} 63L${podX(top(column))} 108`)),
    ...workers.flatMap(box => [
      draw.control(`M${podX(box)} 217L${podX(box)} 242`),
      draw.data(`M${podX(box) - 20} 339L${podX(box) - 20} 316`),
    ]),
    draw.data(`M${podX(balancer)} 445L${podX(balancer)} 392`),
    draw.data(`M${podX(clients)} 547L${podX(clients)} 498`),
    line('M350 160L358 160L358 280', colors.ink, { hasHead: false }),
    draw.data('M350 280L358 280L358 442'),
    draw.data(`M${podX(other) + 40} 547L${podX(other) + 40} 516`),
    draw.data('M150 495L150 528L230 528L230 544'),
    ...note.parts,
  ]);
}

/** Each draws a line along a path of SVG. */
function drawerOf(colors: Colors): Record<'data' | 'control', (path: string) => string> {
  return {
    data: path => line(path, colors.ink),
    control: path => line(path, colors.quiet, { isDashed: true, isQuiet: true }),
  };
}

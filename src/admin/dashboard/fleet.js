/* The pods of this deployment, where there are others. */
const SILENT_S = 3;

function showFleet(pods) {
  byId('fleet').hidden = pods.length < 2;
  const rowOf = ({ pod, version, state, workers, wanted, requestsPerSecond, p99Ms, silentSeconds, isSelf }) => {
    const isSilent = silentSeconds > SILENT_S;
    const pill = make(
      'span',
      `pill ${isSilent ? 'lost' : state}`,
      isSilent ? `silent for ${formatDuration(silentSeconds)}` : state,
    );
    const cells = [
      ['pod', 'left', `${pod}${isSelf ? ' (this one)' : ''}`],
      ['version', 'left', version],
      ['state', 'left', pill],
      ['workers', '', `${workers} of ${wanted}`],
      ['requests/s', '', formatNumber(requestsPerSecond)],
      ['p99', '', formatMs(p99Ms)],
    ].map(([label, className, content]) => {
      const cell = make('td', className, content);
      cell.dataset.label = label;
      return cell;
    });
    return make('tr', '', ...cells);
  };
  byId('pods').replaceChildren(...pods.map(rowOf));
}

import type { Parcel, State } from './parcel';

export function send(parcel: Parcel, state: State): void {
  parcel.state = state;
}

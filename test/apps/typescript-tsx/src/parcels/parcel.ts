export enum State {
  Packed = 'packed',
  Sent = 'sent',
}

export class Parcel {
  constructor(
    readonly id: string,
    public state: State = State.Packed,
  ) {}
}

"""Pure rules of Greenroom: no clock, no dice, no input or output; time and ids are arguments."""

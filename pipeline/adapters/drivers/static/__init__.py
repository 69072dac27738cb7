"""Driver `static`: nodes are machines that stand already, leased whole and cleaned in between."""

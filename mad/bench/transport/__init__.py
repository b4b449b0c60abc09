"""What a call costs a server beside its model: ours, MLServer's and Triton's, in one run."""

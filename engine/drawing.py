"""Pictures of poses: joints and limbs drawn over images."""
